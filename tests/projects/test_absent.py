"""Answers are scored by their best moment and their saliency."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.small_benchmarks import make_model, save_features

from projects.moving_shapes.absent import Separation, draw_separation, main, separate
from r2tuning.checkpoints.folder import save_checkpoint
from r2tuning.metrics import Prediction
from r2tuning.synthetic import describe, describe_absent, make_video
from r2tuning.synthetic.queries import to_line


def test_an_answer_is_worth_its_best_moment_and_its_two_highest_frames() -> None:
    sure = Prediction("a", [[0, 4, 0.4], [4, 8, 0.9]], [0.1, 0.8, -0.3, 0.6])
    silent = Prediction("b", [], [0.2])
    moment, saliency = separate([sure], [silent])
    assert (moment.present.tolist(), moment.absent.tolist()) == ([0.9], [0.0])
    assert saliency.present[0] == pytest.approx(0.7)
    assert saliency.absent[0] == pytest.approx(0.2)
    assert (moment.auroc, saliency.auroc) == (1, 1)


def test_histograms_are_drawn_even_of_equal_scores() -> None:
    same = np.full(5, 0.5)
    picture = Image.open(io.BytesIO(draw_separation([Separation("one", same, same), Separation("two", same, same)])))
    assert picture.format == "PNG"
    assert len(picture.convert("RGB").getcolors(100_000) or ()) > 10


def test_the_script_asks_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = make_video(3, "test")
    present, absent = describe(script), describe_absent(script)
    for name, annotations in (("test", present), ("test_absent", absent)):
        (tmp_path / f"{name}.jsonl").write_text("".join(map(to_line, annotations)), encoding="utf-8")
    qids = [str(a.qid) for a in (*present, *absent)]
    save_features(tmp_path / "features", {script.vid: int(script.duration / 2)}, qids)
    config, model = make_model()
    save_checkpoint(tmp_path / "model", model.state_dict(), config)
    plot, written = tmp_path / "absent.png", tmp_path / "absent.json"
    main([str(tmp_path), str(tmp_path / "model"), "--plot", str(plot), "--json", str(written)])
    found = json.loads(written.read_text())
    assert (found["present"], found["absent"]) == (len(present), len(absent))
    assert set(found["auroc"]) == {"best moment", "top saliency"}
    assert all(0 <= value <= 1 for value in found["auroc"].values())
    assert plot.stat().st_size > 1000
    assert f"best moment   AUROC {found['auroc']['best moment']:.4f}" in capsys.readouterr().out
