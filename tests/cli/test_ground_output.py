"""``r2tuning ground --output``: files in the formats of other programs."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import opentimelineio as otio
import pytest
from support.cli import refused, run

from r2tuning.output.registry import WRITERS

ground = partial(run, "ground")


def test_every_format_at_once(model: Path, video: Path, tmp_path: Path) -> None:
    files = {form: tmp_path / f"answers.{form.upper()}" for form in WRITERS if form != "sheet"}
    options = [word for file in files.values() for word in ("--output", file)]
    options += ["-o", f"sheet:{tmp_path / 'sheet.png'}", "--json", tmp_path / "more.json"]
    result = ground(video, "a dog", "a cat", "--model", model, *options)
    assert result.exit_code == 0, result.output
    assert "Query: a dog" in result.stdout
    single = [file for form, file in files.items() if not WRITERS[form].per_query]
    numbered = [file.with_stem(f"answers-{i}") for file in files.values() if file not in single for i in (1, 2)]
    written = [*single, *numbered, tmp_path / "sheet.png", tmp_path / "more.json"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert sorted(result.stderr.splitlines()) == sorted(f"Wrote {file}" for file in written)
    answers = json.loads(files["json"].read_text())
    assert files["json"].read_bytes() == (tmp_path / "more.json").read_bytes()
    tables = [
        [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
        for text in (files["txt"].read_text(), result.stdout)
    ]
    assert tables[0] == tables[1]
    timeline = otio.adapters.read_from_file(str(files["otio"]), "otio_json")
    # 10 frames per second are counted at 30
    moments = [moment for answer in answers for moment in answer["moments"]]
    for clip, moment in zip(timeline.find_clips(), moments, strict=True):
        assert clip.source_range.start_time.rate == 30
        assert clip.source_range.start_time.to_seconds() == pytest.approx(moment["start"], abs=1 / 60 + 1e-3)


def test_stdout_in_any_format_and_nothing_else(model: Path, video: Path, tmp_path: Path) -> None:
    result = ground(video, "a dog", "--model", model, "-o", "csv:-", "-o", f"csv:{tmp_path / 'a.dat'}", "-k", 2)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline="")))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert (tmp_path / "a.dat").read_bytes() == result.stdout_bytes


def test_what_cannot_be_written_is_refused_before_the_work(model: Path, video: Path, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("old")
    ask = (video, "a dog", "--model", tmp_path / "no-model")
    refused(ground(*ask, "-o", tmp_path / "a.avi"), 1, "a.avi ends in .avi, which names no format", ".srt", ".edl")
    refused(ground(*ask, "-o", tmp_path / "a.srt"), 1, "a.srt exists", "--force")
    refused(ground(*ask, "-o", tmp_path / "no" / "a.srt"), 1, "no folder")
    refused(ground(*ask, "-o", "-"), 1, "json:-")
    refused(ground(*ask, "-o", "srt:-", "--json", "-"), 2, "- would be written twice")
    refused(ground(*ask, "a cat", "-o", tmp_path / "b.png", "-o", tmp_path / "b.png"), 2, "twice")
    refused(ground(*ask, "-o", tmp_path / "b.json", "--json", tmp_path / "x" / ".." / "b.json"), 2, "twice")
    assert (tmp_path / "a.srt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.srt"]
    assert ground(video, "a dog", "--model", model, "-o", tmp_path / "a.srt", "--force").exit_code == 0
    assert (tmp_path / "a.srt").read_text().startswith("1\n00:00:0")


def test_saved_features_are_enough_unless_frames_are_counted(model: Path, video: Path, tmp_path: Path) -> None:
    copy = shutil.copy(video, tmp_path / "film.mp4")
    features = tmp_path / "film.safetensors"
    assert ground(copy, "a dog", "--model", model, "--save-features", features).exit_code == 0
    assert ground(features, "a dog", "--model", model, "-o", tmp_path / "a.edl").exit_code == 0
    Path(copy).unlink()
    assert ground(features, "a dog", "--model", model, "-o", tmp_path / "a.vtt").exit_code == 0
    refused(
        ground(features, "a dog", "--model", model, "-o", tmp_path / "b.edl"),
        1,
        "film.mp4: cannot be read",
        "--video",
        "edl",
    )
    assert not (tmp_path / "b.edl").exists()


def test_opentimelineio_is_asked_for_only_where_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "opentimelineio.py").write_text("raise ModuleNotFoundError('no', name='opentimelineio')")

    def plan(file: str) -> subprocess.CompletedProcess[str]:
        """Goes as far as the first thing that is missing: OpenTimelineIO or, later, the model."""
        command = [sys.executable, "-m", "r2tuning", "ground", "a.mp4", "a dog", "-m", "./no-model", "-o", file]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    done = plan(str(tmp_path / "a.otio"))
    assert done.returncode == 1
    assert done.stderr == "error: opentimelineio is not installed; pip install 'r2tuning[export]'\n"
    done = plan(str(tmp_path / "a.edl"))
    assert done.returncode == 1
    assert "no-model" in done.stderr
