"""The same training with several seeds, and how far its scores spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from r2tuning.training.config import Recipe
from r2tuning.training.loop import Report, train
from r2tuning.training.run_folder import RECIPE_FILE


@dataclass(frozen=True)
class Spread:
    """One metric over several runs.

    Attributes:
        mean: Percent.
        deviation: Standard deviation of the runs (n − 1), percent; None for a single run.
    """

    mean: float
    deviation: float | None


def train_seeds(
    recipe: Recipe, folder: Path, seeds: Sequence[int], report: Callable[[int, Report], None] | None = None
) -> list[dict[str, float]] | None:
    """Trains once with each seed; finished runs are not repeated, and interrupted ones go on.

    Args:
        recipe: What to train; its own seed does not matter.
        folder: Receives a run folder ``seed-N`` for each seed.
        seeds: Of the runs.
        report: Called with the seed and what its run tells.

    Returns:
        Metrics of the best validation of each run, in percent; None if a run was stopped before its end.

    Raises:
        TrainingError: If a run folder has a run of another recipe, or a run fails.
    """
    scores = []
    for seed in seeds:
        run = folder / f"seed-{seed}"
        seeded = recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": seed})})
        begun = (run / RECIPE_FILE).is_file()
        told = None if report is None else _name_seed(report, seed)
        trained = train(seeded, run, resume=begun, report=told)
        if not trained.finished:
            return None
        scores.append(trained.metrics)
    return scores


def _name_seed(report: Callable[[int, Report], None], seed: int) -> Callable[[Report], None]:
    return lambda told: report(seed, told)


def summarize_runs(runs: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Mean and standard deviation of every metric that all runs have.

    Args:
        runs: Metrics of at least one run.

    Example:
        >>> summarize_runs([{"mAP": 40.0}, {"mAP": 42.0}])
        {'mAP': Spread(mean=41.0, deviation=1.4142135623730951)}
    """
    common = [name for name in runs[0] if all(name in run for run in runs)]
    values = {name: [run[name] for run in runs] for name in common}
    return {name: Spread(mean(each), stdev(each) if len(each) > 1 else None) for name, each in values.items()}
