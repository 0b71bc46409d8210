"""A split of a benchmark or of custom data: its annotations and features, opened for training or evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from r2tuning.datasets import Annotation, Benchmark, find_benchmark, fit_moments, load_annotations
from r2tuning.datasets.benchmark import Task
from r2tuning.datasets.custom import hold_out
from r2tuning.datasets.download import dataset_folder
from r2tuning.errors import DataError, FeatureError, RecipeError
from r2tuning.features.extraction import VideoFolder
from r2tuning.features.store import FeatureStore
from r2tuning.model.config import Family

Renamed = Annotated[str, BeforeValidator(lambda name: "custom" if name == "own" else name)]
"""Custom data was called ``own`` in earlier run folders."""


FAMILY_OF: Mapping[Task, Family] = {"moments": "grounding", "highlights": "saliency"}
"""The family of models that learns each task."""


class DataConfig(BaseModel):
    """What to train and validate on.

    Attributes:
        benchmark: Name of a benchmark, or ``custom`` for your annotations.
        domain: Part of the benchmark to keep, such as ``dog``.
        annotations: Folder of the benchmark's annotation files, or your training file; None for where
            ``r2tuning download`` puts them.
        validation: Your validation file; None validates on a share of the training videos (custom data only).
        features: Folder of features; None for the annotations' folder.
        videos: Folder of your videos, from which missing features are made.
        validation_split: Split to validate on; None for the one that papers report.
        absent: Whether to add the queries without an answer in a file beside the split's, see `absent_file`; to train
            on them, there must be one.
        negatives: Queries of other videos to add for each query of a video, as queries that the video does not show.
            A few of them may be true of it by chance.
        repeat: How often each annotation occurs in an epoch.
        queries_per_video: Most queries of one video that share its features in a batch.
        workers: Processes that read ahead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    benchmark: Renamed = "custom"
    domain: str | None = None
    annotations: Path | None = None
    validation: Path | None = None
    features: Path | None = None
    videos: Path | None = None
    train_split: str = "train"
    validation_split: str | None = None
    absent: bool = False
    negatives: float = Field(default=0, ge=0, le=100)
    repeat: int = Field(default=1, ge=1, le=10**6)
    queries_per_video: int = Field(default=1, ge=1, le=10**6)
    workers: int = Field(default=2, ge=0, le=1024)

    def find_rules(self, fps: float) -> Benchmark:
        """The benchmark; custom data has the frame rate ``fps``."""
        benchmark = find_benchmark(self.benchmark)
        return replace(benchmark, fps=fps) if benchmark.is_custom else benchmark

    @property
    def annotation_place(self) -> Path:
        """The folder of the benchmark's annotations, or the file of custom ones."""
        benchmark = find_benchmark(self.benchmark)
        if self.annotations is None and benchmark.is_custom:
            raise RecipeError("data.annotations is not set; add --set data.annotations=FILE.csv")
        return self.annotations or dataset_folder(benchmark)

    @property
    def feature_folder(self) -> Path:
        """Where the features are, or will be made."""
        if self.features is not None:
            return self.features
        benchmark, place = find_benchmark(self.benchmark), self.annotation_place
        if benchmark.is_custom:
            return place.with_suffix(".features")
        # A benchmark made on the spot has its videos in that folder; features would mix with them.
        return place if benchmark.hub_folder else place / "features"


@dataclass(frozen=True)
class OpenSplit:
    """A split, ready to train or evaluate on."""

    name: str
    benchmark: Benchmark
    annotations: list[Annotation]
    store: FeatureStore
    file: Path | None = None  # of the annotations; None for custom data

    @property
    def labelled(self) -> bool:
        """Whether the truth is known."""
        return self.annotations[0].labelled  # files where only some queries have it are refused


def open_split(data: DataConfig, name: str | None = None, *, fps: float, seed: int = 0) -> OpenSplit:
    """Reads the annotations of a split and opens their features; without a name, the split to validate on.

    Custom data has the splits ``train`` and ``val`` and the frame rate ``fps``; the seed decides which of its videos
    are held out for validation.
    """
    benchmark = data.find_rules(fps)
    name = name or data.validation_split or benchmark.evaluation_split
    annotations = read_annotations(data, name, seed=seed)
    file = None if benchmark.is_custom else benchmark.find_file(data.annotation_place, name)
    try:
        store = FeatureStore.open(data.feature_folder)
    except FeatureError as error:
        if benchmark.is_custom:
            raise
        if not benchmark.hub_folder:
            videos = data.annotation_place / "videos"
            raise FeatureError(f"{error}; r2tuning extract makes them from the videos in {videos}") from error
        raise FeatureError(f"{error}; r2tuning download {benchmark.name} fetches the authors'") from error
    require_features(annotations, benchmark, store)
    fitted = [a if a.duration is not None else _fit_to_video(a, benchmark, store) for a in annotations]
    return OpenSplit(name, benchmark, fitted, store, file)


def read_annotations(data: DataConfig, split: str, *, seed: int = 0) -> list[Annotation]:
    """Annotations of a split, see `open_split`; custom ones do not know how long their videos are."""
    benchmark, place = find_benchmark(data.benchmark), data.annotation_place
    if not benchmark.is_custom:
        benchmark.find_split(split)
        if not place.is_dir():
            make = f"download {benchmark.name}" if benchmark.hub_folder else f"synthesize {place} --split {split}"
            raise RecipeError(
                f"{place}: folder not found; run r2tuning {make}, or say where the files are with "
                "--annotations and --features (in training, --set data.annotations=DIR)"
            )
        file = benchmark.find_file(place, split)
        annotations = load_annotations(file, benchmark, split=split, domain=data.domain)
        if data.absent and (absent := absent_file(file)) is not None:
            annotations += load_annotations(absent, benchmark, split=split, domain=data.domain)
        elif data.absent and split == data.train_split:
            raise RecipeError(
                f"{file}: {_absent_name(file)}, its queries without an answer, is not beside it; set data.absent=false"
            )
        return annotations
    if split not in ("train", "val"):
        raise RecipeError(f"custom data has no split {split!r}, only train and val; leave --split out for val")
    find = None if data.videos is None else VideoFolder(data.videos).find
    if split == "val" and data.validation is not None:
        return load_annotations(data.validation, benchmark, find=find)
    annotations = load_annotations(place, benchmark, find=find)
    if data.validation is not None:
        return annotations
    training, validation = hold_out(annotations, seed)
    return training if split == "train" else validation


def absent_file(file: Path) -> Path | None:
    """The queries that are true of no moment, beside a split's file: ``val_absent.jsonl`` for ``val.jsonl``."""
    absent = file.with_name(_absent_name(file))
    return absent if absent.is_file() and absent.stat().st_size else None


def _absent_name(file: Path) -> str:
    return f"{file.stem}_absent{file.suffix}"


def require_features(annotations: Sequence[Annotation], benchmark: Benchmark, store: FeatureStore) -> None:
    """Reports all missing features at once, rather than the first one in the middle of the work."""
    for kind, names, has in (
        ("videos", dict.fromkeys(benchmark.video_name(a) for a in annotations), store.has_video),
        ("queries", dict.fromkeys(benchmark.query_name(a) for a in annotations), store.has_query),
    ):
        missing = [name for name in names if not has(name)]
        if missing:
            first = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise FeatureError(
                f"{store.folder}: no features of {len(missing)} of {len(names)} {kind} ({first}); make them with "
                "r2tuning extract, or fetch the authors' with r2tuning download"
            )


def _fit_to_video(annotation: Annotation, benchmark: Benchmark, store: FeatureStore) -> Annotation:
    """Custom moments count from the player's zero and have no duration; the features know both."""
    name, fps = benchmark.video_name(annotation), benchmark.frame_rate(annotation)
    made = store.video_facts(name)
    if made is not None and not isclose(made.fps, fps, rel_tol=1e-6):
        raise FeatureError(
            f"{store.folder}: {name} has features of {made.fps:g} frames per second; set fps={made.fps:g}, or set "
            "data.videos to the folder of the videos to extract them again"
        )
    start = 0 if made is None else made.start
    duration = store.frames(name) / fps if made is None else made.duration
    moments = tuple((first - start, last - start) for first, last in annotation.moments)
    try:
        return fit_moments(replace(annotation, duration=duration, moments=moments))
    except DataError as error:
        raise DataError(f"{error}; it is {annotation.query!r} in {annotation.vid}") from None
