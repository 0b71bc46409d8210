"""The training loop: what it writes, that it goes on exactly where it stopped, and what its options do."""

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.files import read_csv
from support.small_benchmarks import draw_query, draw_video, save_charades, save_features, write_lines

from r2tuning.checkpoints import load_checkpoint
from r2tuning.checkpoints.folder import load_config
from r2tuning.errors import CheckpointWarning, DataError, FeatureError, R2TuningWarning, RecipeError, TrainingError
from r2tuning.evaluation.predict import predict_split
from r2tuning.evaluation.score import score_predictions
from r2tuning.evaluation.splits import open_split
from r2tuning.model import R2Tuning
from r2tuning.training.build import build_model, open_splits
from r2tuning.training.data import TrainingData, collate
from r2tuning.training.loop import Report, Trained, train
from r2tuning.training.losses import compute_losses
from r2tuning.training.recipes import Recipe, learning_rate, load_recipe

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def charades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_charades(tmp_path_factory.mktemp("charades"))


def make_recipe(folder: Path, *changes: str) -> Recipe:
    """12 queries on 3 videos: 3 steps in each of 2 epochs."""
    small = ["model.layers=2", "model.hidden=8", "model.heads=2", "data.workers=0", "optimizer.warmup_steps=2"]
    short = ["training.epochs=2", "training.batch_size=4", "training.log_every=1", "optimizer.drop_epochs=[1]"]
    return load_recipe("charades-sta", [f"data.annotations={folder}", *small, *short, *changes])


def weights(folder: Path) -> State:
    return load_file(folder / "model.safetensors")


def assert_same(one: State, other: State) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_a_run_leaves_all_that_is_needed_to_use_and_repeat_it(charades: Path, tmp_path: Path) -> None:
    recipe = make_recipe(charades)
    reports: list[Report] = []
    trained = train(recipe, tmp_path / "run", report=reports.append)
    assert (trained.best, trained.finished, trained.main) == (tmp_path / "run" / "best", True, True)
    found = sorted(path.name for path in (tmp_path / "run").iterdir())
    files = ["best", "environment.json", "last", "log.csv", "recipe.yaml", "state.pt", "tensorboard", "validation.csv"]
    assert found == files
    for name in ("best", "last"):
        folder = tmp_path / "run" / name
        assert load_recipe(folder / "recipe.yaml") == recipe
        environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        assert environment["seed"] == 0
        assert environment["packages"]["torch"] == version("torch")
        config = load_config(folder)
        assert (config.name, config.fps, config.window) == ("charades-sta", 1, 195)
        assert (config.decoding, config.model.video_width, config.model.query_width) == (recipe.decoding, 6, 5)
        assert isinstance(load_checkpoint(folder), R2Tuning)
    rows = read_csv(tmp_path / "run" / "log.csv")
    assert [(row["step"], row["epoch"]) for row in rows] == [(str(s), str((s - 1) // 3)) for s in range(1, 7)]
    rates = [learning_rate(step, step // 3, recipe.optimizer) for step in range(6)]
    assert [float(row["lr"]) for row in rows] == pytest.approx(rates, rel=1e-5)
    for row in rows:
        parts = ("classification", "offset", "saliency", "video_calibration", "layer_calibration")
        assert float(row["total"]) == pytest.approx(sum(float(row[part]) for part in parts), rel=1e-4)
    assert [(row["step"], row["epoch"]) for row in read_csv(tmp_path / "run" / "validation.csv")] == [
        ("3", "0"),
        ("6", "1"),
    ]
    assert [(r.step, r.steps, r.epoch, "total" in r.values) for r in reports] == [
        (1, 6, 0, True),
        (2, 6, 0, True),
        (3, 6, 0, True),
        (3, 6, 0, False),
        (4, 6, 1, True),
        (5, 6, 1, True),
        (6, 6, 1, True),
        (6, 6, 1, False),
    ]


def test_the_best_is_what_scored_best_and_scores_the_same_when_evaluated(charades: Path, tmp_path: Path) -> None:
    recipe = make_recipe(charades, "training.epochs=4", "optimizer.lr=1e-2", "training.seed=5")
    main = open_splits(recipe)[0].benchmark.main_metric
    kept: list[tuple[float, State]] = []

    def keep(report: Report) -> None:
        if "total" not in report.values:
            kept.append((report.values[main], {}))
        elif kept and not kept[-1][1]:
            kept[-1][1].update(weights(tmp_path / "run" / "last"))  # of the validation before

    trained = train(recipe, tmp_path / "run", report=keep)
    kept[-1][1].update(weights(tmp_path / "run" / "last"))
    scores = [score for score, _ in kept]
    assert len(set(scores)) > 1
    assert trained.metrics[main] == max(scores)
    assert_same(weights(tmp_path / "run" / "best"), kept[scores.index(max(scores))][1])
    config, split = load_config(tmp_path / "run" / "best"), open_split(recipe.data, fps=recipe.fps)
    answers = predict_split(split, config, load_checkpoint(tmp_path / "run" / "best"))
    assert score_predictions(answers, split.annotations, split.benchmark) == trained.metrics


def stop_at(step: int, number: signal.Signals) -> Callable[[Report], None]:
    def tell(report: Report) -> None:
        if report.step == step and "total" in report.values:
            os.kill(os.getpid(), number)

    return tell


@pytest.mark.parametrize(
    ("step", "number", "changes"),
    [
        (1, signal.SIGINT, ["training.ema=0.9"]),
        (2, signal.SIGTERM, ["data.workers=1", "training.precision=bf16-mixed"]),
        (3, signal.SIGINT, ["data.queries_per_video=3", "data.repeat=2"]),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    charades: Path, tmp_path: Path, step: int, number: signal.Signals, changes: list[str]
) -> None:
    recipe = make_recipe(charades, *changes)
    whole = train(recipe, tmp_path / "whole")
    stopped = train(recipe, tmp_path / "run", report=stop_at(step, number))
    assert not stopped.finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = train(recipe, tmp_path / "run", resume=True)
    assert resumed == Trained(tmp_path / "run" / "best", whole.metrics, finished=True, main=True)
    for name in ("best", "last"):
        assert_same(weights(tmp_path / "run" / name), weights(tmp_path / "whole" / name))
    for file in ("log.csv", "validation.csv"):
        one, other = (read_csv(tmp_path / run / file) for run in ("run", "whole"))
        assert [{**row, "waiting": ""} for row in one] == [{**row, "waiting": ""} for row in other]


def test_a_longer_run_begins_with_a_shorter_one(charades: Path, tmp_path: Path) -> None:
    train(make_recipe(charades), tmp_path / "run")
    longer = make_recipe(charades, "training.epochs=3", "data.workers=1", "training.checkpoint_every=1")
    train(longer, tmp_path / "run", resume=True)
    train(longer, tmp_path / "whole")
    assert_same(weights(tmp_path / "run" / "last"), weights(tmp_path / "whole" / "last"))
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == longer


def test_the_seed_decides(charades: Path, tmp_path: Path) -> None:
    for run, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(len(run))
        train(make_recipe(charades, f"training.seed={seed}"), tmp_path / run)
    assert_same(weights(tmp_path / "a" / "last"), weights(tmp_path / "b" / "last"))
    a, c = (weights(tmp_path / run / "last") for run in ("a", "c"))
    assert all(not torch.equal(value, c[name]) for name, value in a.items() if value.dim() == 2)


def test_another_thread_may_train(charades: Path, tmp_path: Path) -> None:
    done: list[Trained] = []
    thread = threading.Thread(target=lambda: done.append(train(make_recipe(charades), tmp_path / "run")))
    thread.start()
    thread.join()
    assert done[0].finished


def test_the_average_of_weights_is_kept(charades: Path, tmp_path: Path) -> None:
    """One step in each epoch, so that every step's weights are a checkpoint: e = 0.7·e + 0.3·w."""
    changes = ["training.epochs=4", "training.batch_size=12", "optimizer.lr=1e-2", "model.dropout=0.1"]
    steps: list[State] = []

    def keep(report: Report) -> None:
        if "total" in report.values and report.step > 1:
            steps.append(weights(tmp_path / "plain" / "last"))

    train(make_recipe(charades, *changes), tmp_path / "plain", report=keep)
    steps.append(weights(tmp_path / "plain" / "last"))
    assert len(steps) == 4
    train(make_recipe(charades, *changes, "training.ema=0.7"), tmp_path / "ema")
    expected = steps[0]
    for state in steps[1:]:
        expected = {name: 0.7 * value + 0.3 * state[name] for name, value in expected.items()}
    for name, value in weights(tmp_path / "ema" / "last").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
        assert value.dim() < 2 or (value - steps[-1][name]).abs().max() > 1e-4


def test_mixed_precision_learns_and_keeps_whole_weights(charades: Path, tmp_path: Path) -> None:
    changes = ["training.epochs=6", "optimizer.lr=1e-2", "model.dropout=0", "optimizer.drop_epochs=[]"]
    for precision in ("32", "bf16-mixed"):
        train(make_recipe(charades, *changes, f"training.precision={precision}"), tmp_path / precision)
        totals = [float(row["total"]) for row in read_csv(tmp_path / precision / "log.csv")]
        assert np.mean(totals[-3:]) < 0.8 * np.mean(totals[:3])
        assert {value.dtype for value in weights(tmp_path / precision / "last").values()} == {torch.float32}
    first = [float(read_csv(tmp_path / precision / "log.csv")[0]["total"]) for precision in ("32", "bf16-mixed")]
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.02)


@pytest.mark.parametrize("recipe_of_losses", ["released", "paper"])
def test_sharing_videos_changes_only_who_is_contrasted(charades: Path, recipe_of_losses: str) -> None:
    still = ["model.dropout=0", "model.drop_path=0", f"losses.recipe={recipe_of_losses}"]
    recipe = make_recipe(charades, *still, "data.queries_per_video=4")
    split, _ = open_splits(recipe)
    model = build_model(recipe, split.store).train()
    data = TrainingData(split.annotations, split.benchmark, split.store, layers=2, seed=0)
    totals, gradients, kinship = [], [], torch.tensor([0] * 4 + [1] * 4 + [2] * 2)
    for groups in ([(0, 3, 6, 9), (1, 4, 7, 10), (2, 5)], [(i,) for i in (0, 3, 6, 9, 1, 4, 7, 10, 2, 5)]):
        batch = collate([data[0, group] for group in groups])
        output = model(batch.video.float(), batch.query, batch.video_mask, batch.query_mask, batch.video_index)
        targets = dataclasses.replace(batch.targets, video=kinship)  # as if all knew who shares a video
        losses = compute_losses(output, targets, recipe.losses)
        model.zero_grad()
        losses.total.backward()
        totals.append(losses.total.item())
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)


def test_a_run_starts_from_another_checkpoint(charades: Path, tmp_path: Path) -> None:
    train(make_recipe(charades, "training.epochs=1"), tmp_path / "first")
    start = [f"training.start_from={tmp_path / 'first' / 'best'}", "training.epochs=1", "training.seed=9"]
    still = make_recipe(charades, *start, "optimizer.lr=1e-12", "optimizer.weight_decay=0", "model.dropout=0.2")
    train(still, tmp_path / "second")
    before, after = (weights(tmp_path / run / "last") for run in ("first", "second"))
    for name, value in after.items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-9)
    assert load_config(tmp_path / "second" / "last").model.dropout == 0.2
    with pytest.raises(TrainingError, match=r"first/best: has hidden 8, the recipe 16; set model.hidden=8"):
        train(make_recipe(charades, *start, "model.hidden=16"), tmp_path / "third")
    with pytest.raises(
        TrainingError, match=r"first/best: has form released, the recipe paper; set model.form=released$"
    ):
        train(make_recipe(charades, *start, "model.form=paper"), tmp_path / "third")
    assert not (tmp_path / "third").exists()
    # All weights but the gates are shared by the steps: fewer steps take those of the last layers.
    train(make_recipe(charades, *start[:-1], "optimizer.lr=1e-12", "model.layers=1"), tmp_path / "shallow")
    shallow = weights(tmp_path / "shallow" / "last")
    gate = "block.spatial_pooling.gate"
    torch.testing.assert_close(shallow.pop(gate), before[gate][-1:], rtol=0, atol=1e-9)
    assert len(shallow.pop("block.temporal_refinement.gate")) == 0
    for name, value in shallow.items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-9)
    from_shallow = [f"training.start_from={tmp_path / 'shallow' / 'last'}", "training.epochs=1"]
    # More steps begin like the shallowest of those that are known.
    train(make_recipe(charades, *from_shallow, "optimizer.lr=1e-12"), tmp_path / "deeper")
    deeper = weights(tmp_path / "deeper" / "last")
    torch.testing.assert_close(deeper.pop(gate), before[gate][-1:].expand(2), rtol=0, atol=1e-9)
    torch.testing.assert_close(deeper.pop("block.temporal_refinement.gate"), torch.zeros(1), rtol=0, atol=1e-9)
    for name, value in deeper.items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-9)
    with pytest.warns(
        CheckpointWarning, match=r"was trained on features of openai/clip-vit-base-patch32, and continues"
    ):
        train(make_recipe(charades, *start, "backbone=ViT-B/16"), tmp_path / "fourth")
    rate = load_config(tmp_path / "first" / "best").fps
    with pytest.warns(
        CheckpointWarning,
        match=rf"was trained on frames per second: {rate}, and continues with 3\.0; set fps={rate} to keep to it",
    ):
        train(make_recipe(charades, *start, "fps=3"), tmp_path / "fifth")


def test_fewer_layers_than_stored_are_the_last_ones(charades: Path, tmp_path: Path) -> None:
    last = tmp_path / "last-layer"
    save_features(last, {"V0": 20, "V1": 26, "V2": 32}, map(str, range(12)), layers=1)
    for kind, names in (("vid", ["V0", "V1", "V2"]), ("txt", map(str, range(12)))):
        for name in names:
            values = draw_video(name, {"V0": 20, "V1": 26, "V2": 32}[name]) if kind == "vid" else draw_query(name)
            np.save(last / f"clip_b32_{kind}_k1" / f"{name}.npy", values[:, 1:])
    for run, features in (("all", charades), ("only", last)):
        train(make_recipe(charades, "model.layers=1", f"data.features={features}"), tmp_path / run)
    assert_same(weights(tmp_path / "all" / "last"), weights(tmp_path / "only" / "last"))
    assert load_config(tmp_path / "all" / "last").model.layers == 1
    with pytest.raises(TrainingError, match=r"features have 2 layers, the recipe needs 3; set model.layers"):
        train(make_recipe(charades, "model.layers=3"), tmp_path / "more")
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize("refinement", ["reversed", "forward", "mean", "single"])
def test_every_refinement_trains(charades: Path, tmp_path: Path, refinement: str) -> None:
    recipe = make_recipe(charades, f"model.refinement={refinement}", "training.epochs=1", "optimizer.lr=1e-2")
    begun = build_model(recipe, open_splits(recipe)[0].store).state_dict()
    train(recipe, tmp_path / "run")
    after = weights(tmp_path / "run" / "last")
    assert all((value - begun[name]).abs().max() > 1e-3 for name, value in after.items() if value.dim() > 1)


def test_refinements_of_one_layer_are_the_same(charades: Path) -> None:
    outputs = []
    for refinement in ("reversed", "forward", "mean", "single"):
        recipe = make_recipe(charades, "model.layers=1", f"model.refinement={refinement}")
        split, _ = open_splits(recipe)
        model = build_model(recipe, split.store).eval()  # the seed gives all the same weights
        data = TrainingData(split.annotations, split.benchmark, split.store, layers=1, seed=0)
        batch = collate([data[0, (0,)], data[0, (1,)]])
        outputs.append(model(batch.video.float(), batch.query, batch.video_mask, batch.query_mask))
    for other in outputs[1:]:
        assert torch.equal(other.hidden, outputs[0].hidden)
        assert torch.equal(other.class_logits, outputs[0].class_logits)
        assert torch.equal(other.query, outputs[0].query)


@pytest.mark.parametrize("log_every", [1, 100])
def test_divergence_is_an_error_and_replaces_no_good_state(charades: Path, tmp_path: Path, log_every: int) -> None:
    changes = ["optimizer.lr=1e6", "optimizer.warmup_steps=0", f"training.log_every={log_every}"]
    with pytest.raises(TrainingError, match=r"(the loss is (nan|inf)|weights are not finite) at step \d; ") as e:
        train(make_recipe(charades, *changes, "training.checkpoint_every=1"), tmp_path / "run")
    assert "lower optimizer.lr" in str(e.value)
    if (tmp_path / "run" / "state.pt").exists():
        state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
        assert all(value.isfinite().all() for value in state["model"].values())


def test_missing_features_are_named_before_anything_is_written(charades: Path, tmp_path: Path) -> None:
    save_features(tmp_path / "some", {"V0": 20, "V2": 32}, map(str, range(12)))
    with pytest.raises(
        FeatureError, match=r"some: no features of 1 of 3 videos \(V1\); make them with r2tuning extract"
    ):
        train(make_recipe(charades, f"data.features={tmp_path / 'some'}"), tmp_path / "run")
    with pytest.raises(FeatureError, match=r"holds no features"):
        train(make_recipe(charades, f"data.features={tmp_path / 'none'}"), tmp_path / "run")
    with pytest.raises(DataError, match=r"has no train annotations of charades-sta"):
        train(make_recipe(tmp_path), tmp_path / "run")
    with pytest.raises(RecipeError, match=r"add --set data.annotations=FILE.csv"):
        train(load_recipe("custom"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_family_learns_only_what_its_benchmark_asks(charades: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"saliency family cannot learn charades-sta; set model.family=grounding"):
        train(make_recipe(charades, "model.family=saliency", "model.strides=[1]"), tmp_path / "run")


def test_all_domains_may_be_learned_together_but_not_by_oversight(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(1, 6, (12, 20)).tolist()
    domains = {"train": ("EE-bNr36nyA", "akI8YFjEmUw"), "val": ("Se3oxnaPsz0", "sTEELN-vY30")}
    for split, vids in domains.items():
        lines = ({"qid": v, "vid": v, "query": v, "duration": 12, "label": rows} for v in vids)
        write_lines(tmp_path / f"tvsum_{split}.jsonl", lines)
    vids = [*domains["train"], *domains["val"]]
    save_features(tmp_path, dict.fromkeys(vids, 12), vids)
    small = ["model.layers=2", "model.hidden=8", "model.heads=2", "training.epochs=1", "data.workers=0"]
    with pytest.warns(R2TuningWarning, match=r"^tvsum: one model learns all 10 domains; .*such as recipe tvsum/BK$"):
        trained = train(load_recipe("tvsum", [f"data.annotations={tmp_path}", *small]), tmp_path / "run")
    assert {"mAP", "BK-mAP", "VU-mAP", "VT-mAP"} >= set(trained.metrics) >= {"mAP"}


def test_precision_and_devices_that_are_not_there_are_refused(charades: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"training.precision=16-mixed: needs a GPU; set it to 32 or bf16-mixed"):
        train(make_recipe(charades, "training.precision=16-mixed", "training.accelerator=cpu"), tmp_path / "run")
    with pytest.raises(
        TrainingError,
        match=r"training.devices=99: PyTorch sees \d+ GPUs here; set it lower|set training.accelerator=cpu",
    ):
        train(make_recipe(charades, "training.devices=99", "training.accelerator=cuda"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
