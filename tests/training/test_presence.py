"""Training the presence head: what it learns, what it needs, and that nothing changes without it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.planted import TINY, plant_charades
from torch.nn import functional as F

from r2tuning.checkpoints import load_checkpoint
from r2tuning.checkpoints.folder import load_config
from r2tuning.errors import RecipeError
from r2tuning.evaluation.evidence import find_absent, gather_evidence
from r2tuning.evaluation.predict import predict
from r2tuning.evaluation.score import score_predictions
from r2tuning.evaluation.splits import DataConfig, open_split
from r2tuning.grounder import Grounder
from r2tuning.metrics import auroc
from r2tuning.training.build import open_splits
from r2tuning.training.loop import train
from r2tuning.training.losses import presence_loss
from r2tuning.training.recipes import Recipe, load_recipe


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_charades(tmp_path_factory.mktemp("planted"), train=200, test=50)


def make_recipe(folder: Path, *changes: str) -> Recipe:
    return load_recipe("charades-sta", [*TINY, f"data.annotations={folder}", "model.dropout=0", *changes])


ASKED = ("model.presence=true", "data.negatives=1")
LEARNING = ("model.hidden=64", "model.heads=4", "optimizer.lr=1e-3", "optimizer.warmup_steps=20", "training.epochs=14")


@pytest.mark.slow
def test_it_learns_which_queries_a_video_lacks(planted: Path, tmp_path: Path) -> None:
    """AUROC of 50 unseen queries and as many of other videos."""
    train(make_recipe(planted, *LEARNING, *ASKED), tmp_path / "run")
    config, model = load_config(tmp_path / "run" / "last"), load_checkpoint(tmp_path / "run" / "last")
    assert config.model.presence
    split = open_split(DataConfig(benchmark="charades-sta", annotations=planted), "test", fps=1)
    grounder = Grounder(model, config, None)
    evidence = gather_evidence(grounder, split, find_absent(split))
    assert evidence.present.shape == evidence.absent.shape == (50, 3)
    assert auroc(evidence.present[:, 2], evidence.absent[:, 2]) > 0.85
    # What an answer says is the same number, as a probability with the threshold of even chances.
    (answer,) = predict(grounder, split.annotations[:1], split.benchmark, split.store)
    assert answer.presence == pytest.approx(1 / (1 + np.exp(-evidence.present[0, 2])), abs=1e-6)
    scores = score_predictions(
        [answer, replace(answer, qid=-1, presence=0.25)],
        [split.annotations[0], replace(split.annotations[0], qid=-1, moments=(), absent=True)],
        split.benchmark,
    )
    assert scores["GMR-AUROC"] == (100 if answer.presence is not None and answer.presence > 0.25 else 0)


def test_without_it_weights_are_as_they_were(planted: Path, tmp_path: Path) -> None:
    """The loss of a head that is not there has no weight, and a share of 0 draws nothing."""
    short = ("training.epochs=1",)
    for name, changes in (("plain", ()), ("other", ("losses.presence=7", "data.negatives=0"))):
        train(make_recipe(planted, *short, *changes), tmp_path / name)
    one, other = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("plain", "other"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    # A head joins and leaves a checkpoint.
    start = f"training.start_from={tmp_path / 'plain' / 'last'}"
    train(make_recipe(planted, *short, start, *ASKED, "optimizer.lr=1e-12"), tmp_path / "joined")
    joined = load_file(tmp_path / "joined" / "last" / "model.safetensors")
    assert {name for name in joined if name not in one} == {
        f"presence_head.{name}" for name in ("frame.weight", "frame.bias", "query.weight", "weight.weight")
    } | {"presence_head.output.weight", "presence_head.output.bias"}
    for name, value in one.items():
        torch.testing.assert_close(joined[name], value, rtol=0, atol=1e-9)
    start = f"training.start_from={tmp_path / 'joined' / 'last'}"
    train(make_recipe(planted, *short, start, "optimizer.lr=1e-12"), tmp_path / "left")
    assert load_file(tmp_path / "left" / "last" / "model.safetensors").keys() == one.keys()


def test_it_needs_queries_without_an_answer(planted: Path) -> None:
    with pytest.raises(RecipeError, match=r"model.presence needs queries that a video does not show; set data.negat"):
        open_splits(make_recipe(planted, "model.presence=true"))


def test_annotated_ones_beside_the_split_are_trained_on(planted: Path) -> None:
    with pytest.raises(RecipeError, match=r"charades_train_absent.jsonl, its queries without an answer, is not beside"):
        open_splits(make_recipe(planted, "data.absent=true"))
    first = json.loads((planted / "charades_train.jsonl").read_text().splitlines()[0])
    absent = planted / "charades_train_absent.jsonl"
    absent.write_text(json.dumps({**first, "relevant_windows": []}) + "\n")
    try:
        training, validation = open_splits(make_recipe(planted, "data.absent=true", "model.presence=true"))
    finally:
        absent.unlink()
    assert [a.absent for a in training.annotations].count(True) == 1
    assert not any(a.absent for a in validation.annotations)


def test_both_kinds_weigh_the_same() -> None:
    logits, present = torch.tensor([1.0, -2.0, 0.5, 3.0]), torch.tensor([True, False, True, True])
    there = torch.stack([-F.logsigmoid(logits[i]) for i in (0, 2, 3)]).mean()
    expected = (there - F.logsigmoid(-logits[1])) / 2
    assert presence_loss(logits, present).item() == pytest.approx(expected.item(), abs=1e-6)
    assert presence_loss(logits, torch.ones(4, dtype=torch.bool)).isfinite()
