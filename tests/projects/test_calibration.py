"""The script measures on a split what was fitted on another, and how well scores tell absent queries."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.answered_shapes import save_answered
from typer.testing import CliRunner

from projects.moving_shapes.calibration import draw_separation, main, separate
from r2tuning.cli.main import app
from r2tuning.errors import CheckpointError
from r2tuning.evaluation.evidence import Evidence, Judged


def test_the_script_measures_on_test_what_val_has_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_answered(tmp_path, splits=("val", "test"))
    plot, written = tmp_path / "plot.png", tmp_path / "found.json"
    with pytest.raises(CheckpointError, match=r"is not calibrated; run r2tuning calibrate .* moving-shapes"):
        main([str(tmp_path), str(model)])
    done = CliRunner().invoke(app, ["calibrate", str(model), "moving-shapes", "--annotations", str(tmp_path)])
    assert done.exit_code == 0, done.output
    separation = tmp_path / "separation.png"
    main([str(tmp_path), str(model), "--plot", str(plot), "--separation", str(separation), "--json", str(written)])
    found = json.loads(written.read_text())
    assert list(found) == ["split", "moments", "saliency", "presence", "auroc"]
    assert found["moments"]["after"] < 10 < found["moments"]["before"]
    assert 0 <= found["saliency"]["after"] <= 100
    presence = found["presence"]
    assert (presence["present"], presence["absent"]) == (32, 16)
    assert presence["auroc"] > 0.9
    assert presence["kept"] > 70
    assert presence["noticed"] > 70
    with Image.open(plot) as picture:
        assert picture.size[0] == 1000
    with Image.open(separation) as picture:
        assert len(picture.convert("RGB").getcolors(100_000) or ()) > 10
    assert found["auroc"]["top saliency"] > 0.9 > found["auroc"]["best moment"] > 0.5
    output = capsys.readouterr().out
    assert f"Presence: AUROC {presence['auroc']:.3f}" in output
    assert f"best moment   AUROC {found['auroc']['best moment']:.4f}" in output


def test_scores_are_the_best_moment_and_the_two_highest_frames(tmp_path: Path) -> None:
    evidence = Evidence(None, Judged(np.zeros(1), np.ones(1, bool)), np.array([[0.9, 0.7]]), np.array([[0.1, 0.2]]))
    assert separate(evidence) == {"best moment": 1, "top saliency": 1}
    same = replace(evidence, absent=evidence.present)
    assert separate(same) == {"best moment": 0.5, "top saliency": 0.5}
    draw_separation(same, tmp_path / "plot.png")  # even of equal scores
    assert (tmp_path / "plot.png").stat().st_size > 1000
