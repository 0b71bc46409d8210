"""Grids of trainings: what is in them, what is read instead of trained again, and what a failure costs."""

import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.planted import TINY, plant_charades

from r2tuning.ablation.grid import (
    Axis,
    count_layers,
    cross,
    load_cells,
    plan_features,
    plan_study,
    run_ablation,
    score_lengths,
)
from r2tuning.ablation.table import LONGEST_NAME, Ablation, Cell
from r2tuning.errors import RecipeError
from r2tuning.training.loop import Report
from r2tuning.training.recipes import Recipe, load_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_charades(tmp_path_factory.mktemp("planted"), train=24, test=8)


def load_grid(data: Path, cells: Sequence[Cell]) -> list[tuple[Cell, Recipe]]:
    overrides = [*(setting for setting in TINY if setting.split("=")[0] not in dict(cells[0].settings))]
    recipes = load_cells("charades-sta", [*overrides, f"data.annotations={data}"], cells)
    return list(zip(cells, recipes, strict=True))


class Listener:
    """Records the reports; can press Ctrl-C at a step."""

    def __init__(self, interrupt_at: tuple[str, int, int] | None = None) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.saved: list[Ablation] = []
        self._interrupt_at = interrupt_at

    def report(self, cell: Cell, seed: int, told: Report) -> None:
        if "total" in told.values:
            self.steps.append((cell.folder, seed, told.step))
            if self.steps[-1] == self._interrupt_at:
                signal.raise_signal(signal.SIGINT)


LAYERS = cross([Cell()], [Axis("model.layers", ("1", "2"))])


def test_axes_are_refused_unless_key_and_values() -> None:
    for text in ("model.layers", "model.layers=", "=1,2", "model.layers=1,,2"):
        with pytest.raises(RecipeError, match=r"^--vary .*: write KEY=V1,V2"):
            Axis.parse(text)


def test_a_grid_has_every_combination_once() -> None:
    axes = [Axis("model.layers", ("1", "2", "4")), Axis("optimizer.lr", ("1e-4", "3e-4"))]
    grid = cross([Cell((("data.repeat", repeat),)) for repeat in ("1", "2")], axes)
    assert len(grid) == len({cell.folder for cell in grid}) == 12
    assert [dict(cell.settings)["optimizer.lr"] for cell in grid[:4]] == ["1e-4", "3e-4", "1e-4", "3e-4"]
    assert cross([Cell()], []) == [Cell()]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["model.layers=1,2", "model.layers=3"], "model.layers: is varied twice"),
        (["training.seed=0,1"], "use --seeds N"),
    ],
)
def test_axes_that_make_no_grid(axes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        cross([Cell()], [Axis.parse(axis) for axis in axes])


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("optimizer.lr=1e-3,0.001", r"^optimizer.lr=1e-3 and optimizer.lr=0.001 are the same recipe"),
        ("optimizer.rate=1e-3", "unknown key optimizer.rate"),
        ("model.layers=2,0", "model.layers: is 0; input should be greater than or equal to 1"),
        ("training.devices=2", "run parts of it side by side"),
    ],
)
def test_cells_are_checked_before_any_is_trained(vary: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_cells("charades-sta", [], cross([Cell()], [Axis.parse(vary)]))


def test_cells_differ_from_the_recipe_in_their_settings_alone() -> None:
    cells = cross([Cell()], [Axis.parse("model.layers=1,3"), Axis.parse("optimizer.drop_epochs=[20],[20,25]")])
    base = load_recipe("charades-sta", ["training.epochs=7"]).model_dump()
    for cell, recipe in zip(cells, load_cells("charades-sta", ["training.epochs=7"], cells), strict=True):
        chosen = dict(cell.settings)
        expected = {**base, "model": {**base["model"], "layers": int(chosen["model.layers"])}}
        drops = tuple(yaml.safe_load(chosen["optimizer.drop_epochs"]))
        expected["optimizer"] = {**base["optimizer"], "drop_epochs": drops}
        assert recipe.model_dump() == expected


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["model.layers", "data.domain"]), st.text(min_size=1)), max_size=3))
def test_folder_names_are_safe_and_short(chosen: list[tuple[str, str]]) -> None:
    name = Cell(tuple(chosen)).folder
    assert len(name.encode()) == len(name) <= LONGEST_NAME + 9
    assert not set(name) & set('/\\:*?"<>| \n\0')
    assert name[0].isalpha()


def test_settings_that_differ_have_folders_that_differ() -> None:
    values = ["a/b", "a:b", "a-b", "a b", "ä", "ö", "x" * 200, "x" * 201, "../a", "..-a"]
    assert len({Cell((("data.domain", value),)).folder for value in values}) == len(values)


def test_a_grid_is_trained_once_and_its_numbers_are_those_of_the_runs(data: Path, tmp_path: Path) -> None:
    first = Listener()
    grid = load_grid(data, LAYERS)
    done = run_ablation(grid, tmp_path, range(2), report=first.report, save=first.saved.append)
    # Three batches of eight in two epochs, for each cell and seed.
    assert first.steps == [
        (f"model.layers={layers}", seed, step) for layers in (1, 2) for seed in (0, 1) for step in range(1, 7)
    ]
    assert [(len(saved.results), saved.left) for saved in first.saved] == [(1, 1), (2, 0)]
    assert (first.saved[-1], done.failed, done.left) == (done, (), 0)
    for result in done.results:
        assert len(result.runs) == 2
        for seed, run in enumerate(result.runs):
            kept = load_recipe(tmp_path / result.cell.folder / f"seed-{seed}" / "best" / "recipe.yaml")
            assert (kept.training.seed, str(kept.model.layers)) == (seed, result.cell.settings[0][1])
            assert run["MR-full-mIoU"] > 0
        values = np.array([run["MR-full-mIoU"] for run in result.runs])
        spread = result.spread["MR-full-mIoU"]
        assert (spread.mean, spread.deviation) == pytest.approx((values.mean(), values.std(ddof=1)), abs=1e-9)
        assert spread.deviation > 0  # seeds make a difference

    weights = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/*/model.safetensors")}
    assert len(weights) == 8  # best and last of four runs
    second = Listener()
    assert run_ablation(grid, tmp_path, range(2), report=second.report) == done
    assert second.steps == []
    assert {path: path.stat().st_mtime_ns for path in weights} == weights


def test_ctrl_c_ends_the_grid_and_it_goes_on_to_the_same_numbers(data: Path, tmp_path: Path) -> None:
    grid = load_grid(data, LAYERS)
    whole = run_ablation(grid, tmp_path / "whole", range(2))
    stopping = Listener(interrupt_at=("model.layers=2", 0, 2))
    stopped = run_ablation(grid, tmp_path / "cut", range(2), report=stopping.report)
    assert stopping.steps[-1] == ("model.layers=2", 0, 2)
    assert (stopped.results, stopped.failed, stopped.left) == (whole.results[:1], (), 1)
    going_on = Listener()
    assert run_ablation(grid, tmp_path / "cut", range(2), report=going_on.report) == whole
    assert going_on.steps[0] == ("model.layers=2", 0, 3)


def test_a_cell_that_fails_does_not_stop_the_others(data: Path, tmp_path: Path) -> None:
    grid = load_grid(data, cross([Cell()], [Axis("model.layers", ("3", "1"))]))  # the features have two
    done = run_ablation(grid, tmp_path, range(1))
    ((cell, reason),) = done.failed
    assert cell.title == "model.layers=3"
    assert "features have 2 layers, the recipe needs 3" in reason
    assert [result.cell.title for result in done.results] == ["model.layers=1"]
    assert done.left == 0


def test_refinement_is_figure_7() -> None:
    cells = plan_study("refinement", load_recipe("qvhighlights"), 3)
    seen = [(dict(cell.settings)["model.refinement"], int(dict(cell.settings)["model.layers"])) for cell in cells]
    # With one layer the four are the same model.
    assert sorted(seen) == [
        ("forward", 2),
        ("forward", 3),
        ("mean", 2),
        ("mean", 3),
        ("reversed", 1),
        ("reversed", 2),
        ("reversed", 3),
        ("single", 2),
        ("single", 3),
    ]
    assert len(load_cells("qvhighlights", [], cells)) == 9
    with pytest.raises(RecipeError, match="one layer"):
        plan_study("refinement", load_recipe("qvhighlights"), 1)


def test_calibration_turns_two_losses_on_and_off() -> None:
    overrides = ["losses.video_calibration=0.25"]
    cells = plan_study("calibration", load_recipe("qvhighlights", overrides), 4)
    losses = [recipe.losses for recipe in load_cells("qvhighlights", overrides, cells)]
    pairs = [(each.video_calibration, each.layer_calibration) for each in losses]
    assert pairs == [(0, 0), (0.25, 0), (0, 0.1), (0.25, 0.1)]
    with pytest.raises(RecipeError, match=r"losses\.layer_calibration is 0"):
        plan_study("calibration", load_recipe("qvhighlights", ["losses.layer_calibration=0"]), 4)


def test_baseline_is_the_last_layer_alone() -> None:
    recipe = load_recipe("tvsum/BK")
    cells = plan_study("baseline", recipe, 4)
    assert [each.model.layers for each in load_cells("tvsum/BK", [], cells)] == [1, 4]
    with pytest.raises(RecipeError, match=r"model\.layers is 1"):
        plan_study("baseline", load_recipe("tvsum/BK", ["model.layers=1"]), 4)


def test_lengths_are_those_of_the_best_checkpoint(data: Path, tmp_path: Path) -> None:
    grid = load_grid(data, plan_study("lengths", load_recipe("charades-sta"), 2))
    trained = run_ablation(grid, tmp_path, range(1))
    measured = run_ablation(grid, tmp_path, range(1), measure=score_lengths)
    # All planted queries have two words, so their mAP is the mAP of all.
    assert measured.results[0].runs[0] == {
        "1-10 words": pytest.approx(trained.results[0].runs[0]["MR-full-mAP"], abs=0.01)
    }
    with pytest.raises(RecipeError, match="tvsum has no moments"):
        plan_study("lengths", load_recipe("tvsum/BK"), 4)


def test_layers_are_counted_in_the_features(data: Path, tmp_path: Path) -> None:
    assert count_layers(load_recipe("charades-sta", [f"data.annotations={data}"])) == 2
    still_to_be_made = [f"data.annotations={tmp_path}/a.csv", f"data.videos={tmp_path}", "model.layers=3"]
    assert count_layers(load_recipe("custom", still_to_be_made)) == 3


def test_own_features_are_made_once_for_the_deepest_cell(tmp_path: Path) -> None:
    own = [f"data.annotations={tmp_path}/a.csv", f"data.videos={tmp_path}"]
    depths = load_cells("custom", own, cross([Cell()], [Axis.parse("model.layers=1,3"), Axis.parse("data.repeat=1,2")]))
    assert [recipe.model.layers for recipe in plan_features(depths)] == [3]
    assert plan_features(load_cells("charades-sta", [], LAYERS)) == []
    rates = load_cells("custom", own, cross([Cell()], [Axis.parse("fps=1,2")]))
    with pytest.raises(RecipeError, match="cells that differ in it cannot share"):
        plan_features(rates)
