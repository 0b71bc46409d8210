"""``r2tuning reproduce`` from an empty cache: a small benchmark and a seeded checkpoint on a hub of our own."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from support.golden import export_official
from support.hub import FOLDER, QUERY_ARCHIVE, VIDEO_ARCHIVE, Hub, cut, make_archive, serve_hub, to_npy, use_hub
from support.small_benchmarks import charades_lines, draw_query, draw_video, make_model
from typer.testing import CliRunner, Result

from r2tuning.checkpoints import published as registry
from r2tuning.cli.main import app

ENTRY = registry.find_published("charades-sta")
SMALL = [
    "training.epochs=2",
    "training.batch_size=6",
    "data.workers=0",
    "model.hidden=8",
    "model.heads=2",
    "model.layers=2",
]


def hub_files(weights: bytes) -> dict[str, bytes]:
    """What the authors' repository has of Charades-STA, with two layers of narrow features."""
    lines = charades_lines()
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    videos = {f"clip_b32_vid_k4/{x['vid']}.npy": to_npy(draw_video(x["vid"], int(x["duration"]), 4)) for x in lines}
    queries = {f"clip_b32_txt_k4/{x['qid']}.npy": to_npy(draw_query(str(x["qid"]), 4)) for x in lines}
    return {
        f"yeliudev/R2-Tuning/{ENTRY.file}": weights,
        **{f"{FOLDER}charades_{split}.jsonl": content for split in ("train", "test")},
        **cut(VIDEO_ARCHIVE, make_archive(videos), 2),
        FOLDER + QUERY_ARCHIVE: make_archive(queries),
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    buffer = io.BytesIO()
    torch.save({"meta": {}, "state_dict": export_official(make_model()[1].state_dict())}, buffer)
    weights = buffer.getvalue()
    # The published file cannot be here: seeded weights take its place, under their own hash.
    entry = replace(ENTRY, sha256_prefix=hashlib.sha256(weights).hexdigest()[:8])
    monkeypatch.setitem(registry._BY_NAME, ENTRY.name, entry)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "cache"))
    with serve_hub(hub_files(weights)) as hub:
        use_hub(monkeypatch, hub.url)
        yield hub


def reproduce(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def row(shown: str, metric: str, place: int = 0) -> list[str]:
    """Cells of the row of a metric, in the table at this place."""
    return [line.split()[1:] for line in shown.splitlines() if line.split()[:1] == [metric]][place]


def test_download_answer_compare(hub: Hub, tmp_path: Path) -> None:
    result = reproduce("charades-sta", "--to", tmp_path / "data")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("charades-sta on charades-sta, test split, 12 queries\n")
    ours, published, difference = row(result.stdout, "MR-full-R1@0.5")
    assert published == "60.48"
    assert float(difference) == pytest.approx(float(ours) - 60.48, abs=0.0051)
    assert "5 files, " in result.stderr
    assert (tmp_path / "data" / "clip_b32_vid_k4" / "V0.npy").is_file()
    hub.requests.clear()
    again = reproduce("charades-sta", "--to", tmp_path / "data")
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert hub.requests == []
    evaluated = CliRunner().invoke(app, ["evaluate", "charades-sta", "--annotations", str(tmp_path / "data")])
    assert evaluated.stdout == result.stdout


def test_training_again(hub: Hub, tmp_path: Path) -> None:
    arguments = ["charades-sta", "--train", "--seeds", 2, *(part for value in SMALL for part in ("--set", value))]
    result = reproduce(*arguments)
    assert result.exit_code == 0, result.output
    assert "charades-sta trained again, 2 seeds" in result.stdout
    cells = row(result.stdout, "MR-full-R1@0.5", 1)
    assert (cells[1], cells[3]) == ("±", "60.48")
    runs = tmp_path / "cache" / "datasets" / "charades-sta" / "runs" / "charades-sta"
    assert sorted(p.name for p in runs.iterdir()) == ["seed-0", "seed-1"]
    assert "seed 1, step 4 of 4: " in result.stderr

    kept = (runs / "seed-0" / "best" / "model.safetensors").stat().st_mtime_ns
    shutil.rmtree(runs / "seed-1")
    again = reproduce(*arguments)
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert (runs / "seed-0" / "best" / "model.safetensors").stat().st_mtime_ns == kept
    assert "seed 0" not in again.stderr


def test_only_what_was_published_can_be_reproduced(hub: Hub, tmp_path: Path) -> None:
    result = reproduce("charades", "--to", tmp_path / "data")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: no published model 'charades'; did you mean charades-sta?\n"
    assert not (tmp_path / "data").exists()
