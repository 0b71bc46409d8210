"""The script measures on a split what was fitted on another."""

import json
from pathlib import Path

import pytest
from PIL import Image
from support.answered_shapes import save_answered
from typer.testing import CliRunner

from projects.moving_shapes.calibration import main
from r2tuning.cli.main import app
from r2tuning.errors import CheckpointError


def test_the_script_measures_on_test_what_val_has_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_answered(tmp_path, splits=("val", "test"))
    plot, written = tmp_path / "plot.png", tmp_path / "found.json"
    with pytest.raises(CheckpointError, match=r"is not calibrated; run r2tuning calibrate .* moving-shapes"):
        main([str(tmp_path), str(model)])
    done = CliRunner().invoke(app, ["calibrate", str(model), "moving-shapes", "--annotations", str(tmp_path)])
    assert done.exit_code == 0, done.output
    main([str(tmp_path), str(model), "--plot", str(plot), "--json", str(written)])
    found = json.loads(written.read_text())
    assert list(found) == ["split", "moments", "saliency", "presence"]
    assert found["moments"]["after"] < 10 < found["moments"]["before"]
    assert 0 <= found["saliency"]["after"] <= 100
    presence = found["presence"]
    assert (presence["present"], presence["absent"]) == (32, 16)
    assert presence["auroc"] > 0.9
    assert presence["kept"] > 70
    assert presence["noticed"] > 70
    with Image.open(plot) as picture:
        assert picture.size[0] == 1000
    assert f"Presence: AUROC {presence['auroc']:.3f}" in capsys.readouterr().out
