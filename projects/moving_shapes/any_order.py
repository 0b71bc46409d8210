"""Fig. 7 and Table 5 from a start that favors no order: ``python -m projects.moving_shapes.any_order DATA FOLDER OUT``.

A head that was trained in one way to use the layers favors this way in every short training that follows. So the block
of the demo model, with new heads, is first trained in all ways in turn, a step each, with the same gates for all
layers. The cells of both tables continue from there on other videos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from projects.moving_shapes.options import renew_heads, take_subset
from projects.moving_shapes.shared import to_markdown, write_json
from r2tuning.ablation.grid import Study, load_cells, plan_study, run_ablation
from r2tuning.ablation.table import HEADINGS, describe_ablation, format_markdown
from r2tuning.checkpoints.folder import save_checkpoint
from r2tuning.evaluation.predict import evaluate_model
from r2tuning.evaluation.splits import OpenSplit
from r2tuning.model import R2Config, R2Tuning
from r2tuning.training.build import build_model, describe_model, open_splits
from r2tuning.training.data import Batch, TrainingData, load_batches
from r2tuning.training.losses import compute_losses
from r2tuning.training.recipes import Recipe, learning_rate, load_recipe
from r2tuning.types import ModelOutput

WAYS: dict[str, dict[str, object]] = {
    "reversed": {"refinement": "reversed"},
    "forward": {"refinement": "forward"},
    "mean": {"refinement": "mean"},
    "the last layer alone": {"layers": 1},
}
"""Ways to use two layers, as changes of the configuration."""

VIDEOS, QUERIES = 120, 12
"""Of the cells, and queries of each; the start learns from others."""

SHARED = (
    "name=any-order",
    "data.queries_per_video=12",
    "data.workers=0",
    "losses.recipe=released",
    "losses.offset=0.5",
    "losses.saliency=0.1",
    "training.batch_size=24",
    "training.ema=0.95",
    "optimizer.warmup_steps=10",
    "optimizer.drop_epochs=[]",
)
"""Settings of all trainings: the losses of the published models."""

_GATES = ("block.spatial_pooling.gate", "block.temporal_refinement.gate")


def build_variants(model: R2Tuning) -> dict[str, R2Tuning]:
    """The same weights used in every way: all but the gates are shared, and these are the mean over the layers."""
    state = model.state_dict()
    variants = {}
    for way, change in WAYS.items():
        variant = R2Tuning(R2Config.model_validate(model.config.model_dump() | change))
        for name, parameter in model.named_parameters():
            place, _, leaf = name.rpartition(".")
            if name not in _GATES:
                setattr(variant.get_submodule(place), leaf, parameter)
        for name, gate in ((name, variant.get_parameter(name)) for name in _GATES):
            gate.requires_grad_(False).fill_(state[name].mean())
        variants[way] = variant
    return variants


def train_in_turn(recipe: Recipe, variants: dict[str, R2Tuning], split: OpenSplit) -> None:
    """Trains the shared weights as the recipe says, each step in another way."""
    settings, data = recipe.training, recipe.data
    examples = TrainingData(split.annotations, split.benchmark, split.store, recipe.model.layers, settings.seed)
    models = list(variants.values())
    weights = [parameter for parameter in models[0].parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1.0, weight_decay=recipe.optimizer.weight_decay)
    step = 0
    for epoch in range(settings.epochs):
        plan = examples.plan_epoch(epoch, settings.batch_size, data.queries_per_video, data.repeat)
        for batch in load_batches(examples, plan, epoch, data.workers, pin=False):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, epoch, recipe.optimizer)
            output = _predict(models[step % len(models)].train(), batch)
            losses = compute_losses(output, batch.targets, recipe.losses)
            optimizer.zero_grad()
            losses.total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, recipe.optimizer.clip_norm)
            optimizer.step()
            step += 1


def _predict(model: R2Tuning, batch: Batch) -> ModelOutput:
    video, query = (features[:, -model.config.layers :] for features in (batch.video, batch.query))
    output: ModelOutput = model(video, query, batch.video_mask, batch.query_mask, batch.video_index)
    return output


def train_start(recipe: Recipe, folder: Path) -> None:
    """Writes a checkpoint that was trained in all ways, and prints how good it is in each without further training."""
    training, validation = open_splits(recipe)
    model = build_model(recipe, training.store)
    with torch.no_grad():
        variants = build_variants(model)
    train_in_turn(recipe, variants, training)
    config = describe_model(recipe, model, training.store.facts)
    rows = []
    for way, variant in variants.items():
        scores = evaluate_model(variant.eval(), config.model_copy(update={"model": variant.config}), validation)
        rows.append([way, *(f"{scores[name]:.2f}" for name in HEADINGS)])
    print(to_markdown(["the start", *HEADINGS.values()], rows))
    save_checkpoint(folder, variants["reversed"].state_dict(), config)


def main() -> None:
    """Trains the start and the cells, and writes their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the features of train and val")
    parser.add_argument("folder", type=Path, help="where runs go, and are continued")
    parser.add_argument("results", type=Path, help="folder for refinement.json and calibration.json")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    first, second, start = (options.folder / name for name in ("first", "second", "start"))
    shared = [*SHARED, f"data.features={options.data / 'features'}"]
    if not start.is_dir():
        take_subset(options.data, first, VIDEOS, QUERIES, val=100, skip=VIDEOS)
        take_subset(options.data, second, VIDEOS, QUERIES, val=200)
        fresh = options.folder / "fresh"
        renew_heads("demo", fresh)
        settings = [f"data.annotations={first}", f"training.start_from={fresh}", "training.epochs=2"]
        train_start(load_recipe("moving-shapes", [*shared, *settings]), start)
    shared += [f"data.annotations={second}", f"training.start_from={start}", "training.epochs=1"]
    recipe = load_recipe("moving-shapes", shared)
    studies: tuple[Study, ...] = ("refinement", "calibration")
    for study in studies:
        cells = plan_study(study, recipe, layers=2)
        grid = list(zip(cells, load_cells("moving-shapes", shared, cells), strict=True))
        done = run_ablation(grid, options.folder / "runs", range(options.seeds))
        print(format_markdown(done, recipe.name, options.seeds))
        write_json(options.results / f"{study}.json", describe_ablation(done, recipe.name, options.seeds))


if __name__ == "__main__":
    main()
