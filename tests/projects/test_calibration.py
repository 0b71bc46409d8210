"""The script measures on a split what was fitted on another, and how well scores tell absent queries."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.small_benchmarks import save_answered
from typer.testing import CliRunner

from projects.moving_shapes.calibration import are_unseen, draw_separation, find_elsewhere, main, separate
from projects.moving_shapes.kinds import recall_meanings
from r2tuning.cli.main import app
from r2tuning.errors import CheckpointError
from r2tuning.evaluation.evidence import Evidence, Judged
from r2tuning.synthetic import describe, describe_absent, make_video
from r2tuning.synthetic.actions import track_script
from r2tuning.synthetic.semantics import find_truth


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
    assert list(found) == ["split", "moments", "saliency", "presence", "others", "separation"]
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
    (row,) = found["separation"]
    assert row["queries"] == 16
    assert row["auroc"]["top saliency"] > 0.9 > row["auroc"]["best moment"] > 0.5
    output = capsys.readouterr().out
    assert f"Presence: AUROC {presence['auroc']:.3f}" in output
    assert f"one thing differs (16): AUROC of best moment {row['auroc']['best moment']:.4f}, top saliency" in output


def test_what_is_true_elsewhere_is_looked_up() -> None:
    scripts = [make_video(seed, "test") for seed in range(4)]
    asked = [annotation for script in scripts for annotation in describe(script)]
    scenes = {script.vid: track_script(script) for script in scripts}
    found = find_elsewhere(asked)
    assert len(found.queries) > len(asked) / 2
    for query, video, meaning in zip(found.queries, found.videos, recall_meanings(found.queries), strict=True):
        assert query.vid != video.vid
        assert not find_truth(meaning, scenes[video.vid]).possible.any()
    absent = [annotation for script in scripts for annotation in describe_absent(script)]
    unseen = are_unseen(absent)
    assert len(unseen) == len(absent)
    assert 0 < unseen.sum() < len(unseen)


def test_scores_are_the_best_moment_and_the_two_highest_frames(tmp_path: Path) -> None:
    evidence = Evidence(
        None, Judged(np.zeros(1), np.ones(1, bool)), np.array([[0.9, 0.7, 0]]), np.array([[0.1, 0.2, 0]])
    )
    assert separate(evidence) == {"best moment": 1, "top saliency": 1}
    head = replace(evidence, present=np.array([[0.9, 0.7, 2.0]]), absent=np.array([[0.1, 0.2, 3.0]]))
    assert separate(head) == {"best moment": 1, "top saliency": 1, "presence head": 0}
    same = replace(evidence, absent=evidence.present)
    assert separate(same) == {"best moment": 0.5, "top saliency": 0.5}
    draw_separation(same, tmp_path / "plot.png")  # even of equal scores
    assert (tmp_path / "plot.png").stat().st_size > 1000
