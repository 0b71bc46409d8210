"""From many videos and queries to a store of their features: what is there and up to date is left alone."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from r2tuning.backbones import ClipBackbone
from r2tuning.errors import QueryWarning
from r2tuning.features.extract import Progress
from r2tuning.features.store import FeatureStore
from r2tuning.features.tasks import Failure, QueryTask, VideoTask, encode_task
from r2tuning.features.workers import encode_in_workers
from r2tuning.types import Sampling

QUERY_BATCH = 64
"""Sentences that go through the text tower at once."""


@dataclass(frozen=True)
class Extraction:
    """How an extraction went.

    Attributes:
        extracted: Number of items encoded.
        skipped: Number of items that were up to date.
        failures: The others.
    """

    extracted: int
    skipped: int
    failures: tuple[Failure, ...] = ()


def extract_videos(
    tasks: Sequence[VideoTask],
    store: FeatureStore,
    backbone: ClipBackbone,
    *,
    sampling: Sampling = "exact",
    jobs: int = 1,
    progress: Progress | None = None,
) -> Extraction:
    """Encodes videos into a store. A video that cannot be read does not stop the others.

    Interrupted, it leaves only complete features, and called again goes on from there.

    Args:
        tasks: Videos, each name once.
        store: Made by `FeatureStore.create` for the backbone.
        backbone: The frozen CLIP.
        sampling: How frames are picked.
        jobs: Processes to work in; 1 is this one. Others load the backbone again by its name.
        progress: Told after every video of those that are not up to date.

    Raises:
        FeatureError: If features cannot be written, or the processes cannot work.
    """
    due = [task for task in tasks if not store.is_current(task.name, task.path, task.fps, sampling)]
    failures = []
    if jobs == 1:
        results = _encode_here(due, store, backbone, sampling)
    else:
        results = encode_in_workers(due, store, backbone, sampling, jobs)
    with closing(results):  # an interruption must reach the workers at once
        for done, failure in enumerate(results, start=1):
            if failure is not None:
                failures.append(failure)
            if progress is not None:
                progress(done, len(due))
    return Extraction(len(due) - len(failures), len(tasks) - len(due), tuple(failures))


def extract_queries(
    tasks: Sequence[QueryTask], store: FeatureStore, backbone: ClipBackbone, *, progress: Progress | None = None
) -> Extraction:
    """Encodes queries into a store, in batches; a result does not depend on its batch.

    Args:
        tasks: Queries, each name once.
        store: Made by `FeatureStore.create` for the backbone.
        backbone: The frozen CLIP.
        progress: Told after every batch of those that are not up to date.

    Raises:
        QueryError: If a sentence is empty.
        FeatureError: If features cannot be written.
    """
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


def _encode_here(
    tasks: Sequence[VideoTask], store: FeatureStore, backbone: ClipBackbone, sampling: Sampling
) -> Generator[Failure | None, None, None]:
    for task in tasks:
        yield encode_task(task, store, backbone, sampling)
