"""The guide to own data, carried out: its tables are the data, its commands are run, what it says is there is there."""

import re
import shlex
from pathlib import Path

import pytest
from support.models import save_tiny_clip
from support.videos import write_video
from typer.testing import CliRunner, Result

from r2tuning.checkpoints import load_checkpoint
from r2tuning.checkpoints.folder import load_config
from r2tuning.cli.main import app
from r2tuning.datasets import load_custom
from r2tuning.features.store import FeatureStore

GUIDE = (Path(__file__).resolve().parents[1] / "docs" / "custom-data.md").read_text(encoding="utf-8")
SMALL = ["backbone=clip", "model.hidden=8", "model.heads=2", "data.workers=0", "training.accelerator=cpu"]
"""What is changed to run the guide in seconds: CLIP and model are tiny; so the checkpoint to start from is ours."""


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return [content for name, content in found if name == language]


def commands() -> list[list[str]]:
    lines = "".join(blocks("")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


def run(command: list[str]) -> Result:
    program, *words = command
    assert program == "r2tuning"
    if words[0] == "train":
        words += [part for setting in SMALL for part in ("--set", setting)]
        words = [word.replace("start_from=qvhighlights", "start_from=runs/custom/best") for word in words]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    save_tiny_clip(folder / "clip")
    for language in ("csv", "jsonl"):
        (table,) = blocks(language)
        (folder / f"moments.{language}").write_text(table, encoding="utf-8")
    (folder / "videos").mkdir()
    for video in {annotation.vid for annotation in load_custom(folder / "moments.csv")}:
        write_video(folder / "videos" / video, frames=160, fps=10, codec="mpeg4")
    return folder


def test_both_tables_are_read_alike(place: Path) -> None:
    csv, jsonl = (load_custom(place / f"moments.{ending}") for ending in ("csv", "jsonl"))
    assert len(csv) == 8, "one query has two moments"
    found = {(a.vid, a.query): a.moments for a in csv}
    assert all(found[a.vid, a.query] == a.moments for a in jsonl)
    assert found["kitchen.mp4", "she opens the fridge"] == ((2, 6), (14, 16))


def test_the_commands_of_the_guide_do_what_it_says(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    train, go_on, from_published, ground, evaluate = commands()

    result = run(train)
    assert len(re.findall(r"^epoch \d+: ", result.stderr, re.M)) == 30
    assert result.stdout.splitlines()[-1] == "Best checkpoint: runs/custom/best"
    (listed,) = re.findall(r"\| file \| \|\n\|---\|---\|\n((?:\|.*\n)+)", GUIDE)
    names = [name.rstrip("/") for row in listed.splitlines() for name in re.findall(r"`(.*?)`", row.split("|")[1])]
    assert sorted(names) == sorted(path.name for path in Path("runs/custom").iterdir())
    store = FeatureStore.open("moments.features")
    assert (store.layers, store.frames("kitchen.mp4")) == (4, 16)
    made = {path: path.stat().st_mtime_ns for path in Path("moments.features").rglob("*.safetensors")}
    assert len(made) == 4 + 8, "videos and sentences"

    result = run(go_on)
    assert len(re.findall(r"^epoch \d+: ", result.stderr, re.M)) == 10
    assert "epoch 40: " in result.stderr
    assert {path: path.stat().st_mtime_ns for path in made} == made

    run(from_published)
    assert load_config("runs/from-qvhighlights/best").fps == 0.5
    assert FeatureStore.open("features-half").frames("kitchen.mp4") == 8

    assert "a bus stops" in run(ground).stdout
    assert "MR-full-mAP" in run(evaluate).stdout
    assert load_checkpoint("runs/custom/best").config.layers == 4


def test_sizes_in_the_guide_are_right() -> None:
    bytes_of_an_hour = 3600 * 4 * 50 * 768 * 2
    assert f"{bytes_of_an_hour / 1e9:.1f} GB" in GUIDE
