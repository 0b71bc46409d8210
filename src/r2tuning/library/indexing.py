"""Puts videos into a library: each is encoded once, in several processes, and committed as soon as it is complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from r2tuning.errors import LibraryError, VideoError
from r2tuning.features import FEATURE_SUFFIX, EncodedVideo, encode_video
from r2tuning.files import flush_folder
from r2tuning.grounder import FRAMES_READ, Grounder
from r2tuning.library.catalog import Catalog
from r2tuning.library.projected import write_projected
from r2tuning.library.records import Generation, GenerationFacts, Video
from r2tuning.library.scanning import Scan, is_removed, scan_roots
from r2tuning.library.segments import FrameVectors, VectorIndex, thin
from r2tuning.processes import Death, Machines, map_in_processes
from r2tuning.video.planned.groups import count_cores

VIDEO_FOLDER = "videos"


@dataclass(frozen=True)
class Task:
    """A video to encode: its number in this run, the file, and its identity."""

    number: int
    path: str
    identity: str


@dataclass(frozen=True)
class Encoded:
    """What a worker found out about a video; what is kept of it lies in files named by the number of the task."""

    duration: float
    start: float
    frames: int
    truncated: bool
    bytes: int
    vectors: FrameVectors
    identity: str


@dataclass(frozen=True)
class Failure:
    """A file that could not be used, and the reason in one line."""

    path: str
    reason: str


@dataclass(frozen=True)
class Indexed:
    """How an indexing went: videos that were added, their seconds and bytes on the disk, and those that failed."""

    videos: int
    seconds: float
    bytes: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Added:
    """What became of the files that were looked at.

    Attributes:
        scan: What became of the files.
        indexed: The videos that were encoded.
        failures: All files in the places that were looked at that are not in the library, with the reasons.
    """

    scan: Scan
    indexed: Indexed
    failures: tuple[Failure, ...]


Progress = Callable[[int, int], None]
"""Called with the number of videos done and expected."""

Announce = Callable[[Scan, int], None]
"""Called with what was found, and the number of videos to encode."""


def projected_path(folder: Path, name: object) -> Path:
    """The file of the v̂ of a video."""
    return folder / VIDEO_FOLDER / f"{name}.safetensors"


def raw_path(folder: Path, name: object) -> Path:
    """The file of the features of a video."""
    return folder / VIDEO_FOLDER / f"{name}.raw{FEATURE_SUFFIX}"


def update_files(
    catalog: Catalog,
    index: VectorIndex,
    generation: Generation,
    roots: Sequence[str],
    load: Callable[[], Grounder],
    *,
    jobs: int,
    machines: Machines | None,
    retry: bool,
    progress: Progress | None,
    announce: Announce | None,
) -> Added:
    """Looks at some places, notes what has changed, and encodes what a generation lacks of all files of the library.

    ``load`` makes the model, if there is anything to encode.
    """
    every, removed = set(catalog.list_roots()), set(catalog.list_removed())
    scan = scan_roots(roots, catalog.list_files(), leave_out=lambda path: is_removed(path, every, removed), retry=retry)
    with catalog.change():
        catalog.drop_files(scan.dropped)
        for file in scan.files:
            catalog.save_file(file)
        drop_unused(catalog, index)
    done = {video.identity for video in catalog.list_videos(generation.id)}
    waiting: dict[str, str] = {}
    for file in catalog.list_files():
        if file.identity and not file.missing and not file.reason and file.identity not in done:
            waiting.setdefault(file.identity, file.path)
    tasks = [Task(number, path, identity) for number, (identity, path) in enumerate(waiting.items())]
    if announce is not None:
        announce(scan, len(tasks))
    indexed = Indexed(0, 0.0, 0, ())
    if tasks:
        indexed = index_videos(
            catalog, index, generation, tasks, load(), jobs=jobs, machines=machines, progress=progress
        )
    failed = {failure.path: failure for failure in indexed.failures}
    for file in catalog.list_files():
        if file.reason and file.path in scan.changes:
            failed.setdefault(file.path, Failure(file.path, file.reason))
    return Added(scan, indexed, tuple(failed.values()))


def drop_unused(catalog: Catalog, index: VectorIndex) -> None:
    """Drops the videos that no file has any more, in a transaction."""
    wanted = {file.identity for file in catalog.list_files()}
    gone = [video.id for video in catalog.list_videos() if video.identity not in wanted]
    index.drop(catalog, gone)
    catalog.drop_videos(gone)


def index_videos(
    catalog: Catalog,
    index: VectorIndex,
    generation: Generation,
    tasks: Sequence[Task],
    grounder: Grounder,
    *,
    jobs: int = 1,
    machines: Machines | None = None,
    progress: Progress | None = None,
) -> Indexed:
    """Encodes videos and adds them to a generation, one transaction each; a bad one does not stop the others.

    Each of several ``jobs`` is a process that loads the model by its name; one job runs in this process. ``machines``
    encode instead of this one, into the same folder; only this process changes the catalog.
    """
    folder, facts = catalog.folder, generation.facts
    (folder / VIDEO_FOLDER).mkdir(exist_ok=True)
    load = partial(
        _load_encoder,
        folder,
        facts,
        threads=max(1, count_cores() // max(1, min(jobs, len(tasks)))) if machines is None else 1,
        device=grounder.backbone.device if machines is None else torch.device(machines.device),
    )
    here = Encoder(grounder, facts, folder)
    done, seconds, size, failures = 0, 0.0, 0, []
    if machines is not None:
        outcomes = machines.map(load, tasks)
    else:
        outcomes = map_in_processes(load if jobs > 1 else lambda: here, tasks, jobs)
    with closing(outcomes) as results:  # an interruption must stop the processes at once
        if progress is not None:
            progress(0, len(tasks))
        for number, (task, result) in enumerate(results, start=1):
            if isinstance(result, Death):
                reason = f"{task.path}: {result.reason} while encoding it; if memory was short, use fewer --jobs"
                failures.append(Failure(task.path, reason))
                _remember(catalog, task, reason)
            elif isinstance(result, Failure):
                failures.append(result)
                _remember(catalog, task, result.reason)
            elif result.identity != task.identity:
                reason = f"{task.path}: was changed while it was read; run r2tuning library rescan when it is complete"
                failures.append(Failure(task.path, reason))
                _discard(folder, task)
            else:
                _commit(catalog, index, generation, task, result)
                done, seconds, size = done + 1, seconds + result.duration, size + result.bytes
            if progress is not None:
                progress(number, len(tasks))
    return Indexed(done, seconds, size, tuple(failures))


def _commit(catalog: Catalog, index: VectorIndex, generation: Generation, task: Task, found: Encoded) -> None:
    """Gives the files of a video their names, and then adds it in one transaction."""
    folder, number = catalog.folder, catalog.next_video()
    try:
        for place in (projected_path, raw_path):
            with suppress(FileNotFoundError):
                place(folder, _part(task)).replace(place(folder, number))
        flush_folder(folder / VIDEO_FOLDER)
    except OSError as error:
        raise _full(folder, error) from error
    video = Video(
        id=number,
        generation=generation.id,
        identity=task.identity,
        duration=found.duration,
        start=found.start,
        fps=generation.facts.fps,
        frames=found.frames,
        sampling=generation.facts.sampling,
        truncated=found.truncated,
        bytes=found.bytes,
    )
    with catalog.change():
        catalog.add_video(video)
        index.append(catalog, generation.id, number, found.vectors)


def _remember(catalog: Catalog, task: Task, reason: str) -> None:
    with catalog.change():
        for file in catalog.list_files():
            if file.identity == task.identity:
                catalog.save_file(replace(file, reason=reason))


def _discard(folder: Path, task: Task) -> None:
    for place in (projected_path, raw_path):
        place(folder, _part(task)).unlink(missing_ok=True)


def _part(task: Task) -> str:
    return f"new-{task.number}"


def _full(folder: Path, error: OSError) -> LibraryError:
    return LibraryError(f"{folder}: cannot be written ({error.strerror or error}); free space, and run it again")


@dataclass(frozen=True)
class Encoder:
    """Encodes videos as the facts of a generation say, and writes what is kept of each beside the catalog."""

    grounder: Grounder
    facts: GenerationFacts
    folder: Path
    threads: int | None = None

    def __call__(self, task: Task) -> Encoded | Failure:
        """Encodes one video.

        Raises:
            LibraryError: If the disk is full, which would stop the next video too.
        """
        facts, backbone = self.facts, self.grounder.backbone
        try:
            encoded = encode_video(task.path, backbone, facts.fps, sampling=facts.sampling, threads=self.threads)
        except VideoError as error:
            return Failure(task.path, str(error))
        except OSError as error:  # of the file, such as a disk that was pulled out
            return Failure(task.path, f"{task.path}: cannot be read ({error.strerror}); check the disk")
        vectors = embed_video(encoded, self.grounder)
        size = vectors.vectors.nbytes + vectors.frames.nbytes
        try:
            if facts.keep != "vectors":
                place = projected_path(self.folder, _part(task))
                size += write_projected(encoded, self.grounder.model, facts.window, place)
            if facts.keep == "raw":
                place = raw_path(self.folder, _part(task))
                encoded.save(place)
                with place.open("rb") as file:
                    os.fsync(file.fileno())
                size += place.stat().st_size
        except OSError as error:
            _discard(self.folder, task)
            raise _full(self.folder, error) from error
        except BaseException:
            _discard(self.folder, task)
            raise
        own = encoded.facts
        return Encoded(own.duration, own.start, encoded.frames, own.truncated, size, vectors, own.identity)


def _load_encoder(folder: Path, facts: GenerationFacts, threads: int, device: torch.device) -> Encoder:
    torch.set_num_threads(threads)
    grounder = Grounder.from_pretrained(facts.model, backbone=facts.backbone_at, device=device, engine=facts.engine)
    return Encoder(grounder, facts, folder, threads)


def embed_video(encoded: EncodedVideo, grounder: Grounder) -> FrameVectors:
    """The vectors of the frames of a video in the space of sentences, without those that repeat."""
    parts = []
    for first in range(0, encoded.distinct, FRAMES_READ):
        features = encoded.read_stored(first, min(first + FRAMES_READ, encoded.distinct))
        parts.append(grounder.backbone.embed_frames(features).cpu())
    places = np.arange(encoded.distinct, dtype=np.int32)
    if encoded.rows is not None:
        places = np.searchsorted(encoded.rows.numpy(), places).astype(np.int32)
    return thin(torch.cat(parts), places)
