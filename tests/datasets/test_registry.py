import pickle
from pathlib import Path

import pytest

from r2tuning.checkpoints.published import PUBLISHED
from r2tuning.datasets import BENCHMARKS, Annotation, find_benchmark
from r2tuning.errors import DataError, R2TuningWarning
from r2tuning.metrics import BRIEF


def annotation(qid: int = 1, duration: float | None = 30) -> Annotation:
    return Annotation(qid=qid, vid="s30-d52", query="q", duration=duration)


def test_every_published_model_has_its_benchmark_and_rate() -> None:
    names = {f"{b.name}/{domain}" if domain else b.name: b for b in BENCHMARKS for domain in b.domains or ("",)}
    # The models of Moving Shapes are not the authors'.
    assert set(names) - {"moving-shapes"} == {entry.name for entry in PUBLISHED}
    for entry in PUBLISHED:
        benchmark = names[entry.name]
        assert benchmark.fps == (None if benchmark.name == "youtube-highlights" else entry.fps)
        assert benchmark.main_metric in (*BRIEF, "mAP")
        assert benchmark.main_metric in entry.scores


def test_files_on_the_hub() -> None:
    assert find_benchmark("ego4d-nlq").hub_files == (
        "nlq_train.jsonl",
        "nlq_val.jsonl",
        "ego4d_clip_b32_vid_k4.tar.gz",
        "ego4d_clip_b32_txt_k4.tar.gz",
    )
    assert find_benchmark("tvsum").hub_files == (
        "tvsum_anno.json",
        "tvsum_clip_b32_vid_k4.tar.gz",
        "tvsum_clip_b32_txt_k4.tar.gz",
    )
    assert find_benchmark("tacos").hub_files[:3] == ("train.jsonl", "val.jsonl", "test.jsonl")


def test_names_of_feature_files() -> None:
    assert find_benchmark("tacos").video_name(annotation()) == "s30-d52-cam-002"
    assert find_benchmark("charades-sta").video_name(annotation()) == "s30-d52"
    assert find_benchmark("tacos").query_name(annotation(qid=7)) == "7"


def test_the_labelled_test_split_is_preferred(tmp_path: Path) -> None:
    benchmark = find_benchmark("qvhighlights")
    with pytest.raises(
        DataError, match=r"has no test annotations of qvhighlights; put highlight_test_with_gt\.jsonl or"
    ):
        benchmark.find_file(tmp_path, "test")
    for name in ("qvhighlights_test.jsonl", "highlight_test_with_gt.jsonl"):
        (tmp_path / name).touch()
        assert benchmark.find_file(tmp_path, "test") == tmp_path / name


def test_every_split_is_found_under_the_name_on_the_hub(tmp_path: Path) -> None:
    for benchmark in BENCHMARKS:
        folder = tmp_path / benchmark.name
        folder.mkdir()
        assert benchmark.evaluation_split in [split.name for split in benchmark.splits]
        for split in benchmark.splits:
            (folder / split.hub_file).touch()
            assert benchmark.find_file(folder, split.name) == folder / split.hub_file


def test_videos_too_short_to_train_on_are_counted() -> None:
    videos = [annotation(qid, duration) for qid, duration in enumerate((4.9, 5, 30, None))]
    message = "1 of 4 queries of charades-sta are left out of training: their videos are shorter than 5 s"
    with pytest.warns(R2TuningWarning, match=message):
        kept = find_benchmark("charades-sta").keep_trainable(videos)
    assert [a.qid for a in kept] == [1, 2, 3]
    assert len(find_benchmark("tvsum").keep_trainable(videos)) == 4


def test_unknown_names_get_the_nearest() -> None:
    assert find_benchmark("QVHighlights").name == "qvhighlights"
    with pytest.raises(DataError, match="no benchmark 'youtube-highlight'; did you mean youtube-highlights"):
        find_benchmark("youtube-highlight")
    with pytest.raises(DataError, match="no benchmark 'zzz'; there are qvhighlights, ego4d-nlq, "):
        find_benchmark("zzz")


def test_a_frame_rate_needs_labels() -> None:
    with pytest.raises(DataError, match="s30-d52: has no labels to take a frame rate from"):
        find_benchmark("youtube-highlights").frame_rate(annotation())


def test_benchmarks_travel_to_other_processes() -> None:
    """Processes that read ahead start fresh on some systems and receive what they need."""
    for benchmark in BENCHMARKS:
        assert pickle.loads(pickle.dumps(benchmark)) == benchmark
