"""From a recipe to the annotations and features that it trains and validates on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from r2tuning.datasets import Annotation, Benchmark, find_benchmark, fit_moments, load_annotations, load_own
from r2tuning.datasets.download import dataset_folder
from r2tuning.datasets.own import describe_own, hold_out
from r2tuning.errors import RecipeError
from r2tuning.features.store import FeatureStore
from r2tuning.training.config import Recipe


@dataclass(frozen=True)
class Source:
    """What a run reads.

    Attributes:
        benchmark: Rules of the data.
        store: Features of all videos and queries.
        training: Annotations to train on.
        validation: Annotations to validate on.
    """

    benchmark: Benchmark
    store: FeatureStore
    training: list[Annotation]
    validation: list[Annotation]


def open_source(recipe: Recipe) -> Source:
    """Reads the annotations of a recipe and opens its features.

    Args:
        recipe: The recipe; features must be there.

    Raises:
        RecipeError: If it does not say where its data is.
        DataError: If annotations cannot be read.
        FeatureError: If features are missing.
    """
    benchmark, training, validation = read_annotations(recipe)
    store = FeatureStore.open(features_folder(recipe))
    training, validation = (_fill_in(part, benchmark, store) for part in (training, validation))
    return Source(benchmark, store, benchmark.keep_trainable(training), validation)


def read_annotations(recipe: Recipe) -> tuple[Benchmark, list[Annotation], list[Annotation]]:
    """Rules, training and validation annotations of a recipe.

    Raises:
        RecipeError: If it does not say where its data is.
        DataError: If annotations cannot be read.
    """
    data = recipe.data
    if data.benchmark == "own":
        if data.annotations is None:
            raise RecipeError(f"{recipe.name}: your annotations are not named; add --set data.annotations=FILE.csv")
        training = load_own(data.annotations)
        if data.validation is not None:
            # Queries are numbered by file; numbers of the two must not meet.
            validation = [replace(a, qid=len(training) + i) for i, a in enumerate(load_own(data.validation))]
        else:
            training, validation = hold_out(training, recipe.training.seed)
        return describe_own(recipe.fps), training, validation
    benchmark = find_benchmark(data.benchmark)
    folder = data.annotations or dataset_folder(benchmark)
    train, val = (
        load_annotations(benchmark.find_file(folder, split), benchmark, split=split, domain=data.domain)
        for split in (data.train_split, data.validation_split or benchmark.evaluation_split)
    )
    return benchmark, train, val


def features_folder(recipe: Recipe) -> Path:
    """Where a recipe's features are, or are to be made.

    Raises:
        RecipeError: If it does not say.
    """
    data = recipe.data
    if data.features is not None:
        return data.features
    if data.benchmark != "own":
        return data.annotations or dataset_folder(find_benchmark(data.benchmark))
    if data.annotations is None:
        raise RecipeError(f"{recipe.name}: your annotations are not named; add --set data.annotations=FILE.csv")
    return data.annotations.with_suffix(".features")


def _fill_in(annotations: Sequence[Annotation], benchmark: Benchmark, store: FeatureStore) -> list[Annotation]:
    """Own annotations do not say how long their videos are and count from the player's zero; the features know."""
    filled = []
    for annotation in annotations:
        facts = store.video_facts(benchmark.video_name(annotation)) if annotation.duration is None else None
        if facts is not None:
            moments = tuple((start - facts.start, end - facts.start) for start, end in annotation.moments)
            annotation = fit_moments(replace(annotation, duration=facts.duration, moments=moments))
        filled.append(annotation)
    return filled
