"""Extracts the features of many videos and queries into a store."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from os.path import normpath
from pathlib import Path
from typing import Any
from unicodedata import normalize

import torch

from r2tuning.backbones import Backbone, load_backbone
from r2tuning.errors import FeatureError, QueryWarning, VideoError
from r2tuning.features.encode import Progress, encode_video
from r2tuning.features.store import FeatureStore
from r2tuning.processes import Death, Machines, map_in_processes
from r2tuning.types import VIDEO_SUFFIXES, Sampling
from r2tuning.video.planned.groups import count_cores

QUERY_BATCH = 64


class VideoFolder:
    """The videos in a folder and its subfolders; names are compared in Unicode's composed form (NFC)."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise VideoError(f"{folder}: no such folder; give the folder of the videos")
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._folder.rglob("*")):
            if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                whole = path.relative_to(self._folder)
                for name in {str(whole), str(whole.with_suffix("")), path.stem}:
                    self._by_name[normalize("NFC", name)].append(path)

    def find(self, name: str) -> Path:
        """The file of a video, by its name without ending in any subfolder, or by its path in this folder."""
        with suppress(OSError, ValueError):  # a name that no file can have
            if (self._folder / name).is_file():
                return self._folder / name
        found = self._by_name.get(normpath(normalize("NFC", name)), [])
        if not found:
            put = "it" if Path(name).suffix.lower() in VIDEO_SUFFIXES else f"{name}.mp4 or the like"
            raise VideoError(f"{self._folder}: has no video called {name}; put {put} there")
        if len(found) > 1:
            files = " and ".join(str(path.relative_to(self._folder)) for path in found[:2])
            raise VideoError(f"{self._folder}: has several videos called {name} ({files}); keep one")
        return found[0]


@dataclass(frozen=True)
class VideoTask:
    """A video to encode: the name its features get, the file, and the frames per second to sample."""

    name: str
    path: Path
    fps: float


@dataclass(frozen=True)
class QueryTask:
    """A sentence to encode, and the name its features get."""

    name: str
    text: str


@dataclass(frozen=True)
class Failure:
    """A video that got no features, and the reason in one line."""

    name: str
    reason: str


@dataclass(frozen=True)
class Extraction:
    """How an extraction went: items encoded, items that were up to date, and the others."""

    extracted: int
    skipped: int
    failures: tuple[Failure, ...] = ()


def extract_videos(
    tasks: Sequence[VideoTask],
    store: FeatureStore,
    backbone: Backbone,
    *,
    sampling: Sampling = "exact",
    jobs: int = 1,
    machines: Machines | None = None,
    progress: Progress | None = None,
) -> Extraction:
    """Encodes videos into a store. A video that cannot be read does not stop the others.

    After an interruption all features there are complete, and another call continues. Each of several ``jobs`` is a
    process that loads the backbone by its name; one job runs in this process. ``machines`` do it instead of this one,
    in processes of one thread each.
    """
    due = [task for task in tasks if not store.is_current(task.name, task.path, task.fps, sampling)]
    load_encoder = partial(
        _load_encoder,
        store,
        sampling,
        threads=max(1, count_cores() // max(1, min(jobs, len(due)))) if machines is None else 1,
        name=backbone.name,
        layers=backbone.layers,
        device=backbone.device if machines is None else torch.device(machines.device),
        dtype=backbone.dtype if machines is None else None,
        engine=backbone.engine,
        family=type(backbone),
    )
    here = partial(_encode, store=store, backbone=backbone, sampling=sampling)
    failures = []
    if machines is not None:
        outcomes = machines.map(load_encoder, due)
    else:
        outcomes = map_in_processes(load_encoder if jobs > 1 else lambda: here, due, jobs)
    with closing(outcomes) as results:  # an interruption must stop them at once
        for done, (task, result) in enumerate(results, start=1):
            if isinstance(result, Death):
                reason = f"{task.path}: {result.reason} while encoding it; if memory was short, use fewer --jobs"
                failures.append(Failure(task.name, reason))
            elif result is not None:
                failures.append(result)
            if progress is not None:
                progress(done, len(due))
    return Extraction(len(due) - len(failures), len(tasks) - len(due), tuple(failures))


def _load_encoder(
    store: FeatureStore, sampling: Sampling, threads: int, name: str, **options: Any
) -> Callable[[VideoTask], Failure | None]:
    torch.set_num_threads(threads)
    backbone = load_backbone(name, **options)
    store.check_reached(backbone)
    return partial(_encode, store=store, backbone=backbone, sampling=sampling, threads=threads)


def _encode(
    task: VideoTask, store: FeatureStore, backbone: Backbone, sampling: Sampling, threads: int | None = None
) -> Failure | None:
    try:
        encoded = encode_video(task.path, backbone, task.fps, sampling=sampling, threads=threads)
    except VideoError as error:
        return Failure(task.name, str(error))
    try:
        encoded = encoded.expand()
    except FeatureError as error:
        return Failure(task.name, str(error))
    store.save_video(task.name, encoded)  # an error here stops all: the next video could not be written either
    return None


def extract_queries(
    tasks: Sequence[QueryTask], store: FeatureStore, backbone: Backbone, *, progress: Progress | None = None
) -> Extraction:
    """Encodes queries into a store, in batches; a result does not depend on its batch."""
    due = [task for task in tasks if not store.has_text(task.name, task.text)]
    truncated = 0
    for first in range(0, len(due), QUERY_BATCH):
        batch = due[first : first + QUERY_BATCH]
        encoded = backbone.encode_queries([task.text for task in batch])
        for task, query in zip(batch, encoded, strict=True):
            store.save_query(task.name, query, backbone)
            truncated += query.truncated
        if progress is not None:
            progress(first + len(batch), len(due))
    if truncated:
        warnings.warn(
            f"{truncated} queries were cut to the {backbone.max_query_tokens} tokens that {backbone.name} takes",
            QueryWarning,
            stacklevel=2,
        )
    return Extraction(len(due), len(tasks) - len(due))
