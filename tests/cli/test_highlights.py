"""``r2tuning highlights`` and ``summarize`` as a user runs them: with and without a query."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.cli import refused, run
from support.models import save_tiny_model
from support.videos import write_video

from r2tuning.intervals import merge_spans
from r2tuning.video import probe


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return save_tiny_model(folder, family="saliency")


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return write_video(folder / "my video ünï 'quoted'.mp4", frames=120, fps=10, audio=12)


@pytest.mark.parametrize("query", [["a dog"], []])
def test_highlights_last_as_long_as_asked(model: Path, video: Path, query: list[str]) -> None:
    result = run("highlights", video, *query, "--model", model, "--top", 3, "--seconds", 2.5, "--json", "-")
    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)
    assert answer["query"] == "".join(query)
    assert 1 <= len(answer["moments"]) <= 3
    for moment in answer["moments"]:
        assert moment["end"] - moment["start"] == pytest.approx(2.5)
    scores = [moment["score"] for moment in answer["moments"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == max(answer["saliency"]["scores"])


def test_highlights_as_a_table(model: Path, video: Path, tmp_path: Path) -> None:
    result = run("highlights", video, "--model", model, "--top", 2, "-o", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    assert "No query: frames are scored by how typical and new they are" in result.stdout
    assert "1.000" in result.stdout
    assert json.loads((tmp_path / "a.json").read_text())[0]["moments"]
    refused(run("highlights", video, "--model", model, "--json", tmp_path / "a.json"), 1, "a.json exists")


def test_highlights_are_cut_and_joined(model: Path, video: Path, tmp_path: Path) -> None:
    files = ["--clips", tmp_path / "clips", "--reel", tmp_path / "reel.mp4", "--json", tmp_path / "a.json"]
    result = run("highlights", video, "--model", model, "--top", 2, "--seconds", 1, "--pad", 0.5, *files)
    assert result.exit_code == 0, result.output
    (answer,) = json.loads((tmp_path / "a.json").read_text())
    shown = [(max(m["start"] - 0.5, 0), min(m["end"] + 0.5, 12)) for m in answer["moments"]]
    lengths = [probe(clip).duration for clip in sorted((tmp_path / "clips").iterdir())]
    assert lengths == pytest.approx([end - start for start, end in shown], abs=0.11)
    joined = sum(end - start for start, end in merge_spans(shown))
    assert probe(tmp_path / "reel.mp4").duration == pytest.approx(joined, abs=0.25)


@pytest.mark.parametrize("query", [["a dog"], []])
def test_a_summary_is_joined_within_its_budget(model: Path, video: Path, tmp_path: Path, query: list[str]) -> None:
    options = [
        "--model",
        model,
        "--seconds",
        5,
        "-o",
        tmp_path / "s.mp4",
        "-o",
        tmp_path / "s.json",
        "-o",
        tmp_path / "s.csv",
    ]
    result = run("summarize", video, *query, *options)
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["query"], summary["budget"]) == ("".join(query), 5)
    lengths = [shot["end"] - shot["start"] for shot in summary["shots"]]
    assert sum(lengths) == pytest.approx(summary["length"], abs=0.01)
    assert 4 <= summary["length"] <= 5
    starts = [shot["start"] for shot in summary["shots"]]
    assert starts == sorted(starts)
    assert probe(tmp_path / "s.mp4").duration == pytest.approx(summary["length"], abs=0.1 * len(starts))
    assert "of at most 0:05.0" in result.stdout
    assert [row.split()[0] for row in result.stdout.splitlines() if row.strip()[:1].isdigit()] == [
        str(number + 1) for number in range(len(starts))
    ]
    rows = (tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert sorted(float(row.split(",")[1]) for row in rows) == starts
    refused(run("summarize", video, *query, *options), 1, "s.mp4 exists", "--force")


def test_a_summary_of_saved_features_and_the_default_share(model: Path, video: Path, tmp_path: Path) -> None:
    features = tmp_path / "a.safetensors"
    assert run("ground", video, "a dog", "--model", model, "--save-features", features).exit_code == 0
    result = run("summarize", features, "--model", model, "--json", "-")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["budget"] == pytest.approx(1.8)
    assert np.all(np.diff(summary["saliency"]["times"]) > 0)


def test_usage_errors(model: Path, video: Path, tmp_path: Path) -> None:
    refused(run("highlights", video, "--top", 0), 2, "--top")
    refused(run("highlights", video, "--seconds", 0), 2, "--seconds")
    refused(run("highlights", video, "--fps", -1), 2, "--fps")
    refused(run("summarize", video, "--seconds", 5, "--ratio", 0.1), 2, "not both")
    refused(run("summarize", video, "--ratio", 1.2), 2, "--ratio")
    refused(run("summarize", video, "--seconds", "nan"), 2, "--seconds")
    refused(run("summarize", video, "-o", tmp_path / "s.avi"), 1, ".mp4")
    refused(run("highlights", video, "-o", tmp_path / "s.mkv"), 1, "names no format")
    refused(run("highlights", video, "--pad", 1), 2, "--clips DIR or --reel FILE")
    refused(run("summarize", tmp_path / "no.mp4", "--model", model), 1, "no.mp4")
    assert list(tmp_path.iterdir()) == []
