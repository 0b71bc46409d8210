"""From a recipe and a checkpoint to answers and scores on a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from r2tuning.checkpoints import CheckpointConfig
from r2tuning.checkpoints.published import find_published, is_published
from r2tuning.datasets import Annotation, Benchmark, find_benchmark, load_annotations
from r2tuning.datasets.download import dataset_folder
from r2tuning.errors import FeatureError, MetricError, RecipeError
from r2tuning.evaluation.predict import predict, see_whole
from r2tuning.evaluation.score import asks_for_moments
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder
from r2tuning.metrics import Prediction
from r2tuning.model import R2Tuning
from r2tuning.training.config import Recipe
from r2tuning.training.source import features_folder, open_source


@dataclass(frozen=True)
class EvaluationSplit:
    """What a model is asked.

    Attributes:
        recipe: Name of the recipe.
        name: Of the split.
        benchmark: Rules of the data.
        annotations: Queries, with the truth unless it is withheld.
        store: Features of videos and queries.
    """

    recipe: str
    name: str
    benchmark: Benchmark
    annotations: list[Annotation]
    store: FeatureStore

    @property
    def labelled(self) -> bool:
        """Whether the truth is known."""
        return self.annotations[0].labelled  # files where only some queries have it are refused

    @property
    def published(self) -> Mapping[str, float]:
        """Scores that the authors report for it, in percent; empty where they report none."""
        if self.name == self.benchmark.evaluation_split and is_published(self.recipe):
            return find_published(self.recipe).scores
        return MappingProxyType({})


def open_split(recipe: Recipe, name: str | None = None) -> EvaluationSplit:
    """Reads the annotations of a split and opens the recipe's features.

    Args:
        recipe: Says what benchmark, which part of it, and where its files are.
        name: Of the split; None for the one that papers report. Custom data has only ``val``.

    Raises:
        RecipeError: If the recipe does not say where its data is, or there is no such split of custom data.
        DataError: If the annotations cannot be read.
        FeatureError: If the features are missing.
    """
    data = recipe.data
    if data.benchmark == "custom":
        if name not in (None, "val"):
            raise RecipeError(f"--split {name}: custom data is evaluated on its validation part; leave --split out")
        source = open_source(recipe)
        return EvaluationSplit(recipe.name, "val", source.benchmark, source.validation, source.store)
    benchmark = find_benchmark(data.benchmark)
    name = name or data.validation_split or benchmark.evaluation_split
    folder = data.annotations or dataset_folder(benchmark)
    benchmark.find_split(name)
    if not folder.is_dir():
        raise RecipeError(
            f"{folder}: no such folder; run r2tuning download {benchmark.name}, or say where the files are with "
            "--annotations and --features"
        )
    annotations = load_annotations(benchmark.find_file(folder, name), benchmark, split=name, domain=data.domain)
    try:
        store = FeatureStore.open(features_folder(recipe))
    except FeatureError as error:
        raise FeatureError(f"{error}; r2tuning download {benchmark.name} fetches the authors'") from error
    return EvaluationSplit(recipe.name, name, benchmark, annotations, store)


def answer_split(
    split: EvaluationSplit,
    config: CheckpointConfig,
    model: R2Tuning,
    *,
    windows: bool = False,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Asks a checkpoint all queries of a split.

    Args:
        split: What to ask.
        config: What the checkpoint says.
        model: Its model.
        windows: Cover long videos with windows, as `Grounder.ground` does, instead of seeing them whole, as the
            published scores were made.
        device: Where to run; None for where the model is.
        progress: As for `r2tuning.evaluation.predict.predict`.

    Returns:
        One prediction for each of the split's annotations.

    Raises:
        MetricError: If the benchmark asks for moments, which the model does not give.
        FeatureError: If features are missing, damaged or made for another model.
        DataError: If a video has more or fewer frames than the benchmark's labels allow.
    """
    if config.model.family == "saliency" and asks_for_moments(split.benchmark):
        raise MetricError(
            f"{config.name}: gives saliency only, but {split.benchmark.name} asks for moments; evaluate it on tvsum or "
            "youtube-highlights"
        )
    grounder = Grounder(model.to(device), config if windows else see_whole(config), None)
    return predict(grounder, split.annotations, split.benchmark, split.store, progress)
