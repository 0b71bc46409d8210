"""Files of moments found across videos, their truth, and rankings of scored pairs."""

import json
from pathlib import Path

import pytest
from support.cli import refused, run
from support.small_benchmarks import write_lines

from r2tuning.datasets import Annotation, find_benchmark
from r2tuning.errors import DataError
from r2tuning.evaluation.corpus import (
    read_corpus_predictions,
    read_corpus_truth,
    to_corpus_truth,
)
from r2tuning.metrics import evaluate_corpus

TACOS = find_benchmark("tacos")
TRUTH = [
    {"qid": 1, "query": "a dog", "relevant_corpus": [["a", 0, 10], ["b", 20, 30]], "ignored_videos": ["c"]},
    {"qid": 2, "query": "a cat", "relevant_corpus": [["c", 0, 10]]},
]
FOUND = [
    {"qid": 1, "query": "a dog", "pred_corpus": [["c", 0, 10, 0.9], ["b", 20, 30, 0.8]]},
    {"qid": 2, "query": "a cat", "pred_corpus": [["a", 0, 10, 0.9], ["c", 0, 10, 0.8]]},
]


def annotate(qid: int, vid: str, query: str, *moments: list[float]) -> dict[str, object]:
    return {"qid": qid, "vid": vid, "query": query, "duration": 60, "relevant_windows": list(moments)}


def test_score_shows_moments_found_across_videos(tmp_path: Path) -> None:
    """Query 1 is right at once, as video c is ignored, and query 2 at the second moment."""
    write_lines(tmp_path / "truth.jsonl", TRUTH)
    write_lines(tmp_path / "found.jsonl", FOUND)
    result = run("score", tmp_path / "found.jsonl", tmp_path / "truth.jsonl", "--json", "-")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["queries"] == 2
    assert content["metrics"] == evaluate_corpus(FOUND, TRUTH)
    assert (content["metrics"]["VCMR-R1@0.7"], content["metrics"]["VCMR-R5@0.7"]) == (50.0, 100.0)
    table = run("score", tmp_path / "found.jsonl", tmp_path / "truth.jsonl").stdout
    assert table.startswith("found.jsonl on qvhighlights, 2 queries\n")
    assert ["VCMR-R1@0.7", "50.00"] in [line.split() for line in table.splitlines()]


def test_annotations_of_single_videos_are_truth_too(tmp_path: Path) -> None:
    """The same sentence in another video is right."""
    lines = [
        annotate(1, "a", "A dog", [0, 10]),
        annotate(2, "b", "a dog", [20, 30]),
        annotate(3, "c", "a cat", [0, 10]),
    ]
    write_lines(tmp_path / "truth.jsonl", lines)
    write_lines(tmp_path / "found.jsonl", [{"qid": 1, "pred_corpus": [["b", 20, 30, 0.5]]}])
    arguments = [tmp_path / "found.jsonl", tmp_path / "truth.jsonl", "-b", "tacos"]
    refused(run("score", *arguments), 1, "no prediction for 2 queries (2, 3) of 3", "--missing zero")
    result = run("score", *arguments, "--missing", "zero", "--json", "-")
    assert json.loads(result.stdout)["metrics"]["VCMR-R1@0.7"] == 33.33
    refused(run("score", *arguments, "--bins"), 2, "--bins", "across videos")


def test_a_sentence_said_twice_of_a_video_has_its_moments_once() -> None:
    rows = [Annotation(qid, "a", "a dog", 30, ((0, 5),)) for qid in (1, 2)]
    assert [truth.videos for truth in to_corpus_truth(rows)] == [("a",), ("a",)]


def test_names_the_wrong_line(tmp_path: Path) -> None:
    write_lines(tmp_path / "found.jsonl", [FOUND[0], {"qid": 2, "pred_corpus": [["a", 9, 1, 0.5]]}])
    with pytest.raises(DataError, match=r"found\.jsonl:2: prediction for query 2: moment 1 starts at 9 s"):
        read_corpus_predictions(tmp_path / "found.jsonl")
    write_lines(tmp_path / "truth.jsonl", [TRUTH[0], TRUTH[0]])
    with pytest.raises(DataError, match=r"truth\.jsonl:2: qid: 1 is already that of .*truth\.jsonl:1"):
        read_corpus_truth(tmp_path / "truth.jsonl", TACOS)


def test_a_query_without_an_answer_in_a_file_of_predictions(tmp_path: Path) -> None:
    labels = {"relevant_clip_ids": [0], "saliency_scores": [[4, 4, 4]]}
    none = {"relevant_clip_ids": [], "saliency_scores": []}
    write_lines(tmp_path / "t.jsonl", [annotate(1, "a", "x", [0, 10]) | labels, annotate(2, "a", "y") | none])
    rows = [[0, 10, 0.9]]
    found = [{"qid": qid, "pred_relevant_windows": rows, "pred_presence": 0.7 - 0.2 * qid} for qid in (1, 2)]
    write_lines(tmp_path / "f.jsonl", found)
    arguments = ["score", tmp_path / "f.jsonl", tmp_path / "t.jsonl", "-b", "moving-shapes", "--json", "-"]
    for threshold, expected in ((0.4, 100.0), (0.2, 50.0), (0.9, 50.0)):
        result = run(*arguments, "--presence-threshold", threshold)
        assert json.loads(result.stdout)["metrics"]["GMR-G-mIoU@1"] == expected, result.output
    write_lines(tmp_path / "f.jsonl", [found[0] | {"pred_presence": 1.5}])
    refused(run(*arguments), 1, "f.jsonl:1: pred_presence:")
