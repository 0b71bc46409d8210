"""Files made up in the layouts of the authors and of the public copies, and what is refused in them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2tuning.datasets import Annotation, find_benchmark, fit_moments, load_annotations, to_ground_truth
from r2tuning.errors import DataError, R2TuningWarning

MOMENT = {"qid": 1, "vid": "a", "query": "a dog runs", "duration": 30, "relevant_windows": [[2, 8], [10, 12.5]]}
HIGHLIGHT = MOMENT | {"relevant_clip_ids": [1, 3], "saliency_scores": [[4, 4, 4], [0, 1, 2]]}
WITHHELD = {key: MOMENT[key] for key in ("qid", "vid", "query", "duration")}
TVSUM_LINE = {"qid": "akI8YFjEmUw", "vid": "akI8YFjEmUw", "query": "cars", "duration": 2, "label": [[1.0] * 20] * 2}
YOUTUBE_LINE = {"qid": "x", "vid": "x", "query": "dog", "duration": 9.5, "domain": "dog", "match": [-1, 0, 1]}
YOUTUBE_VIDEO = {"frames": 285.0, "fps": 30.0, "match": [-1, 0, 1], "info": [0, 0, 0, 0, 0, "dog"]}


def write_lines(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def load(path: Path, benchmark: str, **options: str) -> list[Annotation]:
    return load_annotations(path, find_benchmark(benchmark), **options)


@pytest.mark.parametrize("benchmark", ["charades-sta", "tacos", "ego4d-nlq", "qvhighlights"])
def test_moment_lines(tmp_path: Path, benchmark: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", MOMENT, MOMENT | {"qid": "1"})
    first, second = load(path, benchmark)
    assert (first.qid, second.qid) == (1, "1")
    assert (first.vid, first.query, first.duration, first.domain) == ("a", "a dog runs", 30, None)
    assert first.moments == ((2, 8), (10, 12.5))
    assert first.saliency is None
    assert first.clips is None


def test_qvhighlights_ratings_are_dense(tmp_path: Path) -> None:
    (annotation,) = load(write_lines(tmp_path / "a.jsonl", HIGHLIGHT), "qvhighlights")
    assert annotation.clips == 15
    assert annotation.saliency is not None
    assert annotation.saliency[[1, 3]].tolist() == [[4, 4, 4], [0, 1, 2]]
    assert annotation.saliency.sum() == 15
    truth = to_ground_truth(annotation)
    assert (truth.qid, truth.duration, truth.query) == (1, 30, "a dog runs")
    assert truth.windows.tolist() == [[2, 8], [10, 12.5]]
    assert truth.saliency is not None
    assert np.array_equal(truth.saliency, annotation.saliency)


def test_qvhighlights_test_split_may_lack_all_labels(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", WITHHELD, WITHHELD | {"qid": 2, "relevant_windows": None})
    assert [a.labelled for a in load(path, "qvhighlights")] == [False, False]


def test_tvsum_layouts_agree(tmp_path: Path) -> None:
    ratings = [[1.0, 5.0] * 10, [2.0] * 20, [3.0] * 20]
    path = tmp_path / "tvsum_anno.json"
    path.write_text(json.dumps({"akI8YFjEmUw": {"title": "cars", "anno": ratings, "other": 1}}), encoding="utf-8")
    public = write_lines(tmp_path / "a.jsonl", TVSUM_LINE | {"label": ratings})
    for (annotation,) in (load(path, "tvsum"), load(public, "tvsum")):
        assert (annotation.qid, annotation.vid, annotation.query) == ("akI8YFjEmUw", "akI8YFjEmUw", "cars")
        assert (annotation.duration, annotation.clips, annotation.domain) == (6, 3, "VU")
        assert annotation.saliency is not None
        assert annotation.saliency.tolist() == ratings


def test_youtube_layouts_agree(tmp_path: Path) -> None:
    path = tmp_path / "youtube_anno.json"
    path.write_text(json.dumps({"x": YOUTUBE_VIDEO}), encoding="utf-8")
    public = write_lines(tmp_path / "a.jsonl", YOUTUBE_LINE)
    for (annotation,) in (load(path, "youtube-highlights"), load(public, "youtube-highlights")):
        assert (annotation.qid, annotation.vid, annotation.query) == ("x", "x", "dog")
        assert (annotation.duration, annotation.clips, annotation.domain) == (9.5, 3, "dog")
        assert annotation.saliency is not None
        assert annotation.saliency.tolist() == [[-1], [0], [1]]
        assert find_benchmark("youtube-highlights").frame_rate(annotation) == 3 / 9.5


def test_split_and_domain_choose_videos_of_one_file(tmp_path: Path) -> None:
    surfing = YOUTUBE_VIDEO | {"info": [0, 0, 0, 0, 0, "surfing"]}
    videos = {"x": YOUTUBE_VIDEO, "fXx44D1sqUw": YOUTUBE_VIDEO, "y": surfing}
    path = tmp_path / "youtube_anno.json"
    path.write_text(json.dumps(videos), encoding="utf-8")

    def vids(**options: str) -> list[str]:
        return [a.vid for a in load(path, "youtube-highlights", **options)]

    assert vids() == ["x", "fXx44D1sqUw", "y"]
    assert vids(split="train") == ["x", "y"]
    assert vids(split="val") == ["fXx44D1sqUw"]
    assert vids(split="train", domain="dog") == ["x"]
    with pytest.raises(DataError, match="has no video of youtube-highlights in split val, domain surfing"):
        vids(split="val", domain="surfing")
    with pytest.raises(DataError, match="youtube-highlights has no split 'test'; choose train or val"):
        vids(split="test")
    with pytest.raises(DataError, match="youtube-highlights has no domain 'dogs'; choose dog or gymnastics or"):
        vids(domain="dogs")


def test_swapped_and_cut_moments_are_counted(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        MOMENT | {"relevant_windows": [[8, 2], [20, 32.5]]},
        MOMENT | {"qid": 2, "relevant_windows": [[-1, 31]]},
        MOMENT | {"qid": 3},
    )
    message = r"a\.jsonl: 1 moments ended before they started and were swapped, 2 reached beyond their video"
    with pytest.warns(R2TuningWarning, match=message):
        annotations = load(path, "charades-sta")
    assert [a.moments for a in annotations] == [((2, 8), (20, 30)), ((0, 30),), ((2, 8), (10, 12.5))]


@pytest.mark.parametrize(
    ("duration", "moment", "fits"),
    [(100, (90, 110), True), (100, (90, 110.5), False), (10, (-2, 12), True), (10, (-2.5, 3), False)],
)
def test_overhang(duration: float, moment: tuple[float, float], fits: bool) -> None:
    annotation = Annotation(qid=1, vid="a", query="a", duration=duration, moments=(moment,))
    if fits:
        assert fit_moments(annotation).moments == ((max(moment[0], 0), duration),)
    else:
        with pytest.raises(DataError, match="correct the moment or the duration"):
            fit_moments(annotation)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": -3}, "duration: is -3; input should be greater than 0"),
        ({"duration": float("nan")}, "duration: is nan; input should be a finite number"),
        ({"duration": "30"}, "duration: is '30'; input should be a valid number"),
        ({"duration": 1e7}, "duration: is 10000000.0; input should be less than or equal to 1000000"),
        ({"qid": [1]}, "qid: is [1]; give an integer or a string"),
        ({"qid": True}, "qid: is True; give an integer or a string"),
        ({"vid": 3}, "vid: is 3; input should be a valid string"),
        ({"query": " "}, "query: is ' '; write at least one character"),
        ({"relevant_windows": None}, "relevant_windows: is None; input should be a valid list"),
        ({"relevant_windows": [[1, 2], [3]]}, "relevant_windows[1]: is [3]; list should have at least 2 items"),
        ({"relevant_windows": [[1, "2"]]}, "relevant_windows[0][1]: is '2'; input should be a valid number"),
        ({"relevant_windows": [[1, float("inf")]]}, "relevant_windows[0][1]: is inf; input should be a finite"),
        ({"relevant_windows": [[1, 90]]}, "relevant_windows: moment 1: [1, 90] s lies outside a video of 30 s"),
    ],
)
def test_moment_refusals(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", MOMENT | {"qid": 7}, MOMENT | changes)
    with pytest.raises(DataError) as caught:
        load(path, "charades-sta")
    assert str(caught.value).startswith(f"{path}:2: {message}")


def test_missing_fields_name_the_nearest(tmp_path: Path) -> None:
    misspelt = WITHHELD | {"relevant_window": [[1, 2]]}
    path = write_lines(tmp_path / "a.jsonl", misspelt)
    for benchmark in ("tacos", "qvhighlights"):  # required in the one, optional in the other
        with pytest.raises(DataError, match=r":1: relevant_windows: is missing; rename 'relevant_window'\?"):
            load(path, benchmark)
    with pytest.raises(DataError, match=r":1: relevant_windows: is missing; the keys are \['qid', 'vid', 'query'"):
        load(write_lines(path, WITHHELD), "tacos")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"saliency_scores": [[4, 4, 4]]}, "1 rows of scores for 2 relevant_clip_ids; give one row each"),
        ({"saliency_scores": None}, "scores and relevant_clip_ids come together; give both or neither"),
        (
            {"saliency_scores": [[4, 4, 5], [0, 0, 0]]},
            "saliency_scores[0][2]: is 5; input should be less than or equal",
        ),
        ({"saliency_scores": [[4, 4], [0, 0, 0]]}, "saliency_scores[0]: is [4, 4]; list should have at least 3 items"),
        ({"relevant_clip_ids": [1, 15]}, "relevant_clip_ids: is [1, 15]; clip 15 is not one of the video's 15"),
        ({"relevant_clip_ids": [-1, 1]}, "relevant_clip_ids[0]: is -1; input should be greater than or equal to 0"),
        ({"relevant_clip_ids": [1, 1]}, "relevant_clip_ids: is [1, 1]; name every clip once"),
    ],
)
def test_qvhighlights_refusals(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", HIGHLIGHT | changes)
    with pytest.raises(DataError) as caught:
        load(path, "qvhighlights")
    assert str(caught.value).startswith(f"{path}:1: ")
    assert message in str(caught.value)


def test_scores_without_clip_ids_are_refused(tmp_path: Path) -> None:
    line = {key: value for key, value in HIGHLIGHT.items() if key != "relevant_clip_ids"}
    with pytest.raises(DataError, match=r":1: saliency_scores: .*come together; give both or neither"):
        load(write_lines(tmp_path / "a.jsonl", line), "qvhighlights")
    line = {key: value for key, value in HIGHLIGHT.items() if key != "saliency_scores"}
    with pytest.raises(DataError, match=r":1: saliency_scores: .*come together; give both or neither"):
        load(write_lines(tmp_path / "a.jsonl", line), "qvhighlights")


def test_a_repeated_id_and_a_file_labelled_in_part_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", HIGHLIGHT, WITHHELD | {"qid": 2})
    with pytest.raises(DataError, match=r":2: relevant_windows: only some queries of the file have any"):
        load(path, "qvhighlights")
    path = write_lines(path, MOMENT, MOMENT | {"qid": 2}, MOMENT)
    with pytest.raises(DataError, match=r"a\.jsonl:3: qid: 1 is already that of .*a\.jsonl:1; keep one"):
        load(path, "tacos")


@pytest.mark.parametrize(
    ("benchmark", "line", "message"),
    [
        ("tvsum", TVSUM_LINE | {"label": [[1.0] * 19]}, "label[0]: is [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, ...]; list"),
        ("tvsum", TVSUM_LINE | {"label": [[0.0] * 20]}, "label[0][0]: is 0.0; input should be greater than or equal"),
        ("tvsum", TVSUM_LINE | {"label": []}, "label: is []; list should have at least 1 item"),
        ("tvsum", TVSUM_LINE | {"vid": "zzz"}, "vid: 'zzz' is not one of TVSum's 50 videos; remove the entry"),
        ("youtube-highlights", YOUTUBE_LINE | {"match": [2]}, "match[0]: is 2; input should be less than or equal"),
        ("youtube-highlights", YOUTUBE_LINE | {"match": [0.5]}, "match[0]: is 0.5; input should be a valid integer"),
        ("youtube-highlights", YOUTUBE_LINE | {"domain": "cat"}, "domain: is 'cat'; input should be 'dog', 'gymn"),
    ],
)
def test_label_refusals(tmp_path: Path, benchmark: str, line: dict[str, Any], message: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", line)
    with pytest.raises(DataError) as caught:
        load(path, benchmark)
    assert str(caught.value).startswith(f"{path}:1: {message}")


@pytest.mark.parametrize("info", [[], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0, "cat"], [0, 0, 0, 0, 0, ["dog"]]])
def test_youtube_entries_without_a_domain_are_refused(tmp_path: Path, info: list[Any]) -> None:
    path = tmp_path / "youtube_anno.json"
    path.write_text(json.dumps({"x": YOUTUBE_VIDEO | {"info": info}}), encoding="utf-8")
    with pytest.raises(DataError, match=r"anno\.json:x: info: is .*; item 5 \(from 0\) must be one of dog, gymnastics"):
        load(path, "youtube-highlights")


def test_ground_truth_needs_a_duration() -> None:
    annotation = Annotation(qid=0, vid="trip.mp4", query="a dog", duration=None, moments=((1, 2),))
    with pytest.raises(DataError, match=r"duration of trip\.mp4 is unknown; read it from the video"):
        to_ground_truth(annotation)
    assert to_ground_truth(replace(annotation, duration=10)).windows.tolist() == [[1, 2]]
