"""Layers are compared pair by pair, as the calibrating losses see them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.models import small_model

from projects.moving_shapes.layers import compare_layers, draw_layers
from r2tuning.datasets import Annotation, find_benchmark
from r2tuning.errors import DataError
from r2tuning.model import R2Config
from r2tuning.output.charts import save_picture

BENCHMARK = find_benchmark("charades-sta")
CONFIG = R2Config(video_width=6, query_width=5, layers=2, hidden=8, heads=2)


def make_store() -> SimpleNamespace:
    """Features of three layers, of which the model reads the last two."""
    draw = torch.Generator().manual_seed(0)
    video = {vid: torch.randn(8, 3, 5, 6, generator=draw).half() for vid in ("a", "b")}
    query = {"0": torch.randn(4, 3, 5, generator=draw), "1": torch.randn(7, 3, 5, generator=draw)}
    return SimpleNamespace(video=video.__getitem__, query=query.__getitem__)


def test_means_of_cosines_over_the_pairs() -> None:
    model, store = small_model(CONFIG, 0), make_store()
    rate = BENCHMARK.frame_rate(Annotation(qid=0, vid="a", query="a dog", duration=8))
    annotations = [
        Annotation(qid=number, vid=vid, query="a dog", duration=8 / rate, moments=((2 / rate, 5 / rate),))
        for number, vid in enumerate("ab")
    ]
    found = compare_layers(model, annotations, BENCHMARK, store)  # type: ignore[arg-type]
    expected = np.zeros((2, 2))
    for annotation in annotations:
        video = store.video(annotation.vid).float()[:, 1:].transpose(0, 1)[None]
        query = store.query(str(annotation.qid))[:, 1:].transpose(0, 1)[None]
        with torch.no_grad():
            output = model(video, query)
        for text in range(2):
            for layer in range(2):
                one = output.query_pooled[0, text].numpy()
                other = output.video_cls[0, layer, 2:5].mean(dim=0).numpy()
                expected[text, layer] += one @ other / np.linalg.norm(one) / np.linalg.norm(other) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(DataError, match="no moment"):
        compare_layers(model, [], BENCHMARK, store)  # type: ignore[arg-type]


def test_a_heat_map_for_each_checkpoint(tmp_path: Path) -> None:
    found = {f"title $x_ {number}": np.eye(6) - 0.5 for number in range(3)}
    save_picture(lambda: draw_layers(found), tmp_path / "p.png", force=False)
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width == 1000
        assert picture.height > 800  # two rows
    save_picture(lambda: draw_layers({"one": np.eye(2)}), tmp_path / "p.svg", force=False)
    text = (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert "1.00</text>" in text
    assert ">one</text>" in text
