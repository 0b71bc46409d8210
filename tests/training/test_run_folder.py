"""The folder of a run: begun once, gone on with only by the same recipe, never left with half a file."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from support.files import read_csv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import r2tuning
from r2tuning.errors import TrainingError
from r2tuning.training.recipes import load_recipe
from r2tuning.training.run_folder import LOG_FILE, VALIDATION_FILE, Log, RunFolder, describe_environment

RECIPE = load_recipe("charades-sta", ["data.annotations=a b", "optimizer.lr=1e-5"])


def change(*settings: str) -> object:
    return load_recipe("charades-sta", ["data.annotations=a b", "optimizer.lr=1e-5", *settings])


def test_a_run_begins_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.require_new()
    folder.begin(RECIPE)
    assert load_recipe(folder.path / "recipe.yaml") == RECIPE
    assert sorted(path.name for path in folder.path.iterdir()) == ["environment.json", "recipe.yaml"]
    for begin in (folder.require_new, lambda: folder.begin(RECIPE)):
        with pytest.raises(TrainingError, match=r"run: already holds a run; continue it with --resume, or "):
            begin()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"file/run: cannot be written \(.*\); choose another --run folder"):
        RunFolder(tmp_path / "file" / "run").begin(RECIPE)


def test_the_environment_is_what_numbers_may_depend_on() -> None:
    found = json.loads(json.dumps(describe_environment(change("training.seed=7"))))
    assert (found["r2tuning"], found["seed"]) == (r2tuning.__version__, 7)
    assert found["packages"]["numpy"] == np.__version__
    assert found["gpu"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else None)
    here = Path(r2tuning.__file__).parent
    asked = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert (found["git"] or {"commit": ""})["commit"] == asked.stdout.strip()


@pytest.mark.parametrize(
    ("setting", "difference"),
    [
        ("optimizer.lr=1e-4", "optimizer.lr was 1e-05, is 0.0001"),
        ("training.seed=1", "training.seed was 0, is 1"),
        ("training.devices=2", "training.devices was 1, is 2"),
        ("model.layers=2", "model.layers was 4, is 2"),
        ("data.annotations=elsewhere", "data.annotations was a b, is elsewhere"),
    ],
)
def test_another_recipe_does_not_go_on(tmp_path: Path, setting: str, difference: str) -> None:
    RunFolder(tmp_path).begin(RECIPE)
    with pytest.raises(TrainingError) as caught:
        RunFolder(tmp_path).resume(change(setting))
    assert str(caught.value) == f"{tmp_path}: belongs to another recipe ({difference}); choose another --run folder"
    assert load_recipe(tmp_path / "recipe.yaml") == RECIPE


def test_what_changes_no_number_may_change(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(RECIPE)
    assert folder.resume(RECIPE) is None, "nothing was saved yet"
    often = ["training.validate_every=2", "training.log_every=3", "training.checkpoint_every=5"]
    longer = change("training.epochs=90", "data.workers=0", *often)
    folder.resume(longer)
    assert load_recipe(tmp_path / "recipe.yaml") == longer


def test_a_state_comes_back_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(TrainingError, match=r": holds no run to resume; leave out --resume"):
        folder.resume(RECIPE)
    folder.begin(RECIPE)
    folder.save_state({"step": 3, "model": {"a": torch.arange(4.0)}})
    state = folder.resume(RECIPE)
    assert state is not None
    assert (state["step"], state["model"]["a"].tolist()) == (3, [0, 1, 2, 3])
    for content in (b"half a file", (tmp_path / "state.pt").read_bytes()[:-200]):
        (tmp_path / "state.pt").write_bytes(content)
        with pytest.raises(TrainingError, match=r"state\.pt: damaged: .*; start again in another --run folder"):
            folder.resume(RECIPE)


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(RECIPE)
    folder.save_state({"step": 3})

    def run_out_of_space(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0\nframe #0")  # as torch says it

    monkeypatch.setattr(torch, "save", run_out_of_space)
    with pytest.raises(
        TrainingError, match=r"state\.pt cannot be written \(.*\): .*; then continue with --resume"
    ) as e:
        folder.save_state({"step": 4})
    assert "\n" not in str(e.value)
    assert folder.resume(RECIPE) == {"step": 3}
    assert not list(tmp_path.glob(".*.part"))


def test_a_log_goes_on_after_the_steps_that_were_done(tmp_path: Path) -> None:
    log = Log(tmp_path, step=0)
    for step in range(1, 6):
        log.write(LOG_FILE, step, 0, {"lr": 0.1, "total": 1 / step})
    log.write(VALIDATION_FILE, 5, 0, {"mAP": 12.5})
    log.close()
    with (tmp_path / "log.csv").open("a", newline="") as file:
        file.write("6,0,0.1,0.1")  # the process was killed in the middle of a row
    log = Log(tmp_path, step=3)
    for step in range(4, 8):
        log.write(LOG_FILE, step, 0, {"lr": 0.1, "total": 2 / step})
    log.close()
    rows = read_csv(tmp_path / "log.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 8))
    assert [float(row["total"]) for row in rows] == pytest.approx(
        [1, 1 / 2, 1 / 3, 2 / 4, 2 / 5, 2 / 6, 2 / 7], rel=1e-5
    )
    assert read_csv(tmp_path / "validation.csv") == [{"step": "5", "epoch": "0", "mAP": "12.5"}]
    log = Log(tmp_path, step=7)
    log.write(LOG_FILE, 7 + 1, 1, {"lr": 0.1, "total": 1})
    log.write(VALIDATION_FILE, 8, 1, {"mAP": 20})
    log.close()
    assert [row["step"] for row in read_csv(tmp_path / "validation.csv")] == ["5", "8"]
    assert not list(tmp_path.glob(".*.part"))


def test_tensorboard_shows_what_the_tables_hold(tmp_path: Path) -> None:
    log = Log(tmp_path, step=0)
    log.write(LOG_FILE, 10, 0, {"total": 0.5})
    log.write(VALIDATION_FILE, 10, 0, {"MR-full-mAP": 40})
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert {name: [(e.step, e.value) for e in board.Scalars(name)] for name in board.Tags()["scalars"]} == {
        "total": [(10, 0.5)],
        "MR-full-mAP": [(10, 40)],
    }
