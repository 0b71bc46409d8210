"""A benchmark as data: no other code asks for its name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from r2tuning.datasets.annotations import Annotation, LabelRule, mark_moments
from r2tuning.datasets.entries import Entry
from r2tuning.errors import DataError, R2TuningWarning
from r2tuning.intervals import FloatArray

Task = Literal["moments", "highlights"]
"""What a benchmark scores: moments (and saliency where it has labels), or saliency alone."""

Scorer = Literal["grounding", "youtube", "tvsum"]
"""The metric: `r2tuning.metrics.evaluate_grounding`, or, per domain, `youtube_map` or `tvsum_top5_map`."""


@dataclass(frozen=True)
class Split:
    """One split: ``train``, ``val`` or ``test``.

    Attributes:
        hub_file: The authors' annotation file in the benchmark's folder on the hub.
        files: Possible names in a local folder, the preferred first.
        elsewhere: URL of a better file than the hub's, which a user may put into the folder.
    """

    name: str
    hub_file: str
    files: tuple[str, ...]
    elsewhere: str | None = None


def splits_of_one_file(whole: str, stem: str) -> tuple[Split, ...]:
    """``train`` and ``val`` of a benchmark whose authors keep all in one file, and others in one file per split."""
    return tuple(Split(name, whole, (whole, f"{stem}_{name}.jsonl")) for name in ("train", "val"))


@dataclass(frozen=True)
class Benchmark:
    """A benchmark, or custom data. Settings of the published models are in `r2tuning.checkpoints.published`.

    Attributes:
        name: As in names of checkpoints, such as ``charades-sta``.
        splits: The splits that have annotations; none for custom data, which is one file anywhere.
        evaluation_split: The split that papers report.
        main_metric: The metric that selects the best checkpoint.
        fps: Frames per second of the authors' features; None if each video has a different rate.
        hub_folder: The authors' folder on the hub, below ``datasets/``, and prefix of its archives; empty without.
        parse: From an entry of a file to its annotation; None for custom data, where an annotation is several rows.
        task: ``moments`` needs a model of the grounding family, ``highlights`` one of the saliency family.
        scorer: Which metric scores it.
        domains: Parts of the benchmark that have a separate model each.
        validation_videos: Ids of the videos in ``val``, where one file may hold all splits; else empty.
        labels: How saliency labels become a target.
        min_duration: Seconds; shorter videos are left out of training.
        video_suffix: What follows the id in names of videos and their features.
    """

    name: str
    splits: tuple[Split, ...]
    evaluation_split: str
    main_metric: str
    fps: float | None
    hub_folder: str
    parse: Callable[[Entry], Annotation] | None
    task: Task = "moments"
    scorer: Scorer = "grounding"
    domains: tuple[str, ...] = ()
    validation_videos: frozenset[str] = frozenset()
    labels: LabelRule | None = None
    min_duration: float = 0
    video_suffix: str = ""

    @property
    def is_custom(self) -> bool:
        """Whether it is the user's data."""
        return self.parse is None

    @property
    def hub_files(self) -> tuple[str, ...]:
        """Names of the authors' files in their hub folder: annotations, video features, query features."""
        annotations = dict.fromkeys(split.hub_file for split in self.splits)
        return (*annotations, *(f"{self.hub_folder}_clip_b32_{what}_k4.tar.gz" for what in ("vid", "txt")))

    def find_split(self, name: str) -> Split:
        """The split called ``name``."""
        for split in self.splits:
            if split.name == name:
                return split
        names = " or ".join(split.name for split in self.splits)
        raise DataError(f"{self.name} has no split {name!r}; choose {names}")

    def is_in_split(self, vid: str, split: str) -> bool:
        """Whether a video belongs to a split; always True where every split has a file."""
        return not self.validation_videos or (vid in self.validation_videos) == (split == "val")

    def find_file(self, folder: str | Path, split: str) -> Path:
        """The split's annotation file in ``folder``."""
        files = self.find_split(split).files
        for file in files:
            if (Path(folder) / file).is_file():
                return Path(folder) / file
        raise DataError(f"{folder}: has no {split} annotations of {self.name}; put {' or '.join(files)} there")

    def video_name(self, annotation: Annotation) -> str:
        """Name, without ending, of the video's file and of its features."""
        return annotation.vid + self.video_suffix

    def query_name(self, annotation: Annotation) -> str:
        """Name, without ending, of the query's features: its id, or in custom data, where ids repeat, its sentence."""
        return annotation.query if self.is_custom else str(annotation.qid)

    def frame_rate(self, annotation: Annotation) -> float:
        """Frames per second to sample the video at: the benchmark's, or one frame per labeled clip."""
        if self.fps is not None:
            return self.fps
        if annotation.clips is None or annotation.duration is None:
            raise DataError(f"{annotation.vid}: has no labels to take a frame rate from; give its annotation")
        return annotation.clips / annotation.duration

    def saliency_target(self, annotation: Annotation, frames: int, fps: float) -> FloatArray:
        """The target saliency in [0, 1] of a video's T sampled frames.

        It is ``[T]``, or shorter by up to the slack of the label rule; then cut the video to the same length.
        """
        try:
            if self.labels is not None and annotation.saliency is not None:
                return self.labels.make_target(annotation.saliency, frames)
        except DataError as error:
            raise DataError(f"{annotation.vid}: {error}") from None
        if not annotation.moments and not annotation.absent:
            raise DataError(f"{annotation.vid}: query {annotation.qid!r} has no labels to train on; use another split")
        return mark_moments(annotation.moments, frames, fps)

    def positive_frames(self, annotation: Annotation, target: FloatArray) -> NDArray[np.bool_]:
        """Frames ``[T]`` of a target above the benchmark's threshold; all False if the labels are constant."""
        if self.labels is None or annotation.saliency is None:
            return target > 0
        threshold = self.labels.threshold
        return target > (np.median(target) if threshold is None else threshold)

    def keep_trainable(self, annotations: Sequence[Annotation]) -> list[Annotation]:
        """The annotations of videos of at least `min_duration`, with a warning about those left out."""
        kept = [a for a in annotations if a.duration is None or a.duration >= self.min_duration]
        if left_out := len(annotations) - len(kept):
            warnings.warn(
                f"{left_out} of {len(annotations)} queries of {self.name} are left out of training: "
                f"their videos are shorter than {self.min_duration:g} s",
                R2TuningWarning,
                stacklevel=2,
            )
        return kept
