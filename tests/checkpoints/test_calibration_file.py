"""A calibration belongs to the weights it lies beside, and to no others."""

import json
from pathlib import Path

import pytest
import torch
from support.small_benchmarks import make_model

from r2tuning.checkpoints import load_config, save_checkpoint
from r2tuning.checkpoints.folder import CALIBRATION_FILE, load_calibration, save_calibration
from r2tuning.decoding.calibration import Calibration, PresenceMap, ScoreMap
from r2tuning.errors import CheckpointError, CheckpointWarning, OutputError

CALIBRATION = Calibration(
    moments=ScoreMap(slope=0.7, offset=-1 / 3),
    saliency=ScoreMap(slope=5.1, offset=-2.2),
    presence=PresenceMap(moment=0, saliency=3.3, offset=0.1, threshold=0.4),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config, model = make_model()
    save_checkpoint(tmp_path / "m", model.state_dict(), config)
    return tmp_path / "m"


@pytest.mark.parametrize(
    "calibration", [CALIBRATION, CALIBRATION.model_copy(update={"moments": None, "presence": None})]
)
def test_saving_and_loading(folder: Path, calibration: Calibration) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert load_calibration(folder) is None
    save_calibration(folder, calibration, "a 🎬 split", force=False)
    assert load_calibration(folder) == calibration
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert after.keys() - before.keys() == {CALIBRATION_FILE}
    assert after.items() >= before.items()
    assert json.loads(after[CALIBRATION_FILE])["fitted_on"] == "a 🎬 split"
    load_config(folder)


def test_an_older_one_is_replaced_only_by_force(folder: Path) -> None:
    save_calibration(folder, CALIBRATION, "", force=False)
    with pytest.raises(OutputError, match="--force"):
        save_calibration(folder, CALIBRATION, "", force=False)
    save_calibration(folder, CALIBRATION, "again", force=True)


def test_other_weights_are_not_calibrated_by_it(folder: Path) -> None:
    save_calibration(folder, CALIBRATION, "", force=False)
    config, model = make_model()
    torch.nn.init.zeros_(model.level_scale)
    save_checkpoint(folder, model.state_dict(), config)
    with pytest.warns(CheckpointWarning, match=r"calibration\.json: was fitted to other weights"):
        assert load_calibration(folder) is None


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ('"slope":0.7', '"slope":-0.7', r"calibration\.moments\.slope"),
        ('"slope":0.7', '"slope":NaN', r"calibration\.moments\.slope"),
        ('"slope":0.7', '"sloop":0.7', r"calibration\.moments\.slope"),
        ('"threshold":0.4', '"threshold":1.4', r"calibration\.presence\.threshold"),
        ("}", "", "delimiter"),
    ],
)
def test_damaged_files_are_refused_in_one_line(folder: Path, was: str, now: str, words: str) -> None:
    save_calibration(folder, CALIBRATION, "", force=False)
    file = folder / CALIBRATION_FILE
    text = json.dumps(json.loads(file.read_text()), separators=(",", ":"))
    assert was in text
    file.write_text(text.replace(was, now))
    with pytest.raises(CheckpointError, match=rf"{words}.*run r2tuning calibrate again") as caught:
        load_calibration(folder)
    assert "\n" not in str(caught.value)


def test_a_pth_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"")
    assert load_calibration(tmp_path / "a.pth") is None
