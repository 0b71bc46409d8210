"""The annotation files that are commonly passed around, where they lie beside the checkout."""

import json
from collections import Counter
from functools import cache

import pytest
from support.files import shared_file

from r2tuning.datasets import Annotation, find_benchmark, load_annotations, to_ground_truth
from r2tuning.metrics import evaluate_grounding

# Lines, videos and moments, counted from the files by other means.
COUNTS = {
    "qvhighlights_val": ("qvhighlights", 1550, 1519, 2803),
    "charades_train": ("charades-sta", 12404, 5336, 12404),
    "charades_test": ("charades-sta", 3720, 1334, 3720),
    "tacos_test": ("tacos", 4001, 25, 4001),
    "tvsum_train": ("tvsum", 40, 40, 0),
    "tvsum_val": ("tvsum", 10, 10, 0),
    # The split has 172 videos for validation; these files have 152 of them.
    "youtube_highlight_train": ("youtube-highlights", 233, 233, 0),
    "youtube_highlight_val": ("youtube-highlights", 152, 152, 0),
}


@cache
def load(file: str) -> list[Annotation]:
    return load_annotations(shared_file(f"annotations/{file}.jsonl"), find_benchmark(COUNTS[file][0]))


@pytest.mark.parametrize("file", COUNTS)
def test_counts(file: str) -> None:
    annotations = load(file)
    _, lines, videos, moments = COUNTS[file]
    assert (len(annotations), len({a.vid for a in annotations})) == (lines, videos)
    assert sum(len(a.moments) for a in annotations) == moments
    assert all(a.labelled for a in annotations)


@pytest.mark.parametrize("file", ["tvsum_train", "tvsum_val", "youtube_highlight_train", "youtube_highlight_val"])
def test_files_agree_with_our_splits_and_domains(file: str) -> None:
    benchmark = find_benchmark(COUNTS[file][0])
    path = shared_file(f"annotations/{file}.jsonl")
    split = file.rpartition("_")[2]
    assert len(load_annotations(path, benchmark, split=split)) == COUNTS[file][1]
    with path.open(encoding="utf-8") as lines:
        domains = {line["vid"]: line["domain"] for line in map(json.loads, lines)}
    assert {a.vid: a.domain for a in load(file)} == domains
    assert set(domains.values()) == set(benchmark.domains)


def test_tvsum_durations_are_seconds() -> None:
    # The file says 66, its number of label rows, each of which stands for 2 seconds.
    video = next(a for a in load("tvsum_train") if a.vid == "akI8YFjEmUw")
    assert (video.clips, video.duration) == (66, 132)
    assert Counter(a.domain for a in load("tvsum_train")) == dict.fromkeys(find_benchmark("tvsum").domains, 4)


def test_youtube_rates_are_the_videos_own() -> None:
    benchmark = find_benchmark("youtube-highlights")
    rates = [benchmark.frame_rate(a) for a in load("youtube_highlight_train")]
    assert min(rates) == pytest.approx(0.1134, abs=1e-4)
    assert max(rates) == pytest.approx(0.6004, abs=1e-4)


def test_every_labelled_video_has_a_positive_frame() -> None:
    for file, (name, *_) in COUNTS.items():
        benchmark = find_benchmark(name)
        for annotation in load(file)[:500]:
            fps = benchmark.frame_rate(annotation)
            assert annotation.duration is not None
            frames = annotation.clips or int(annotation.duration * fps + 0.5)
            target = benchmark.saliency_target(annotation, frames, fps)
            assert target.shape == (frames,)
            assert 0 <= target.min() <= target.max() <= 1
            assert benchmark.positive_frames(annotation, target).any()


def test_metrics_are_those_of_the_file_read_as_it_is() -> None:
    with shared_file("annotations/qvhighlights_val_moment_detr_predictions.jsonl").open(encoding="utf-8") as lines:
        answers = {line["qid"]: line for line in map(json.loads, lines)}
    with shared_file("annotations/qvhighlights_val.jsonl").open(encoding="utf-8") as lines:
        truths = [json.loads(line) for line in lines][:300]
    chosen = [answers[truth["qid"]] for truth in truths]
    checked = [to_ground_truth(annotation) for annotation in load("qvhighlights_val")[:300]]
    assert evaluate_grounding(chosen, checked) == evaluate_grounding(chosen, truths)
