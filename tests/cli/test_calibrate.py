"""``r2tuning calibrate`` as a user runs it."""

import json
from functools import partial
from pathlib import Path

import pytest
from support.cli import run
from support.small_benchmarks import save_answered

from r2tuning.checkpoints.folder import CALIBRATION_FILE, load_calibration

calibrate = partial(run, "calibrate")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_answered(tmp_path_factory.mktemp("shapes")).parent


def test_a_checkpoint_is_calibrated_once(shapes: Path) -> None:
    model = shapes / "model"
    result = calibrate(model, "moving-shapes", "--annotations", shapes)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "small on moving-shapes, val split: 32 queries, 16 absent (val_absent.jsonl)"
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:] if line.split()}
    for name in ("moments", "saliency"):
        before, after = map(float, rows[name][1:])
        assert after < before
    assert rows["Presence:"][0] == "AUROC"
    assert float(rows["Presence:"][1].strip(";")) > 0.9
    assert str(model / CALIBRATION_FILE) in result.stderr.replace("\n", "")
    written = json.loads((model / CALIBRATION_FILE).read_text())
    assert written["fitted_on"] == "moving-shapes, val split: 32 queries, 16 absent (val_absent.jsonl)"
    found = load_calibration(model)
    assert found is not None
    assert found.presence is not None

    again = calibrate(model, "moving-shapes", "--annotations", shapes)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "--force" in again.stderr
    forced = calibrate(model, "moving-shapes", "--annotations", shapes, "--force")
    assert (forced.exit_code, forced.stdout) == (0, result.stdout)


def test_assumed_settings_give_way_to_the_recipe(tmp_path: Path) -> None:
    model = save_answered(tmp_path)
    config = model / "config.json"
    content = json.loads(config.read_text())
    content["provenance"]["assumed"] = "qvhighlights"
    content["decoding"]["nms"] = "none"
    config.write_text(json.dumps(content))
    result = calibrate(model, "moving-shapes", "--annotations", tmp_path)
    assert result.exit_code == 0, result.output
    assert "are now those of the recipe moving-shapes" in " ".join(result.stderr.split())
    calibration = load_calibration(model)

    plain = save_answered(tmp_path / "plain")
    assert calibrate(plain, "moving-shapes", "--annotations", tmp_path / "plain").exit_code == 0
    assert calibration == load_calibration(plain)  # with the recipe's suppression


def test_presence_that_chance_explains_is_left_out(tmp_path: Path) -> None:
    model = save_answered(tmp_path, absent=False)
    result = calibrate(model, "moving-shapes", "--annotations", tmp_path, "--split", "val")
    assert result.exit_code == 0, result.output
    assert "32 absent (queries of other videos)" in result.stdout
    assert "No presence: " in result.stderr
    assert "Presence" not in result.stdout
    found = load_calibration(model)
    assert found is not None
    assert found.presence is None


def test_a_file_cannot_be_calibrated(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"")
    result = calibrate(tmp_path / "a.pth", "moving-shapes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "make one with r2tuning convert" in result.stderr
