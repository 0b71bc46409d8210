"""A library between two changes, and which of its videos may be found."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from r2tuning.errors import LibraryError
from r2tuning.library.catalog import Catalog
from r2tuning.library.places import Place
from r2tuning.library.records import File, Generation, Video
from r2tuning.library.segments import VectorView
from r2tuning.model.pooling import QuantizedTokens


@dataclass(frozen=True)
class Filters:
    """Which videos may be found; all that are given must hold.

    Attributes:
        within: Pattern of paths, such as ``*/2024/*``; a folder stands for all that is in it.
        since: Files changed at this time or later, seconds since 1970.
        min_duration: Seconds that a video lasts at least.
    """

    within: str | None = None
    since: float | None = None
    min_duration: float | None = None

    def allow(self, video: Video, files: Sequence[File]) -> bool:
        """Whether a video with these files may be found."""
        if self.min_duration is not None and video.duration < self.min_duration:
            return False
        return any(self._allow_file(file) for file in files)

    def _allow_file(self, file: File) -> bool:
        if self.since is not None and file.mtime_ns < self.since * 1e9:
            return False
        if self.within is None:
            return True
        pattern = str(Path(self.within).expanduser())
        return fnmatch(file.path, pattern) or file.path.startswith(os.path.join(pattern, ""))  # noqa: PTH118


@dataclass(frozen=True)
class Snapshot:
    """A library as it is between two changes.

    Attributes:
        changes: How many changes there had been.
        generation: What is searched.
        videos: Those that have a file, by number.
        files: Of each of these videos, those that are there.
        view: Their vectors.
        read: v̂ of a video from a frame to another, ``[K, T, P+1, C]``; None if the video was removed meanwhile.
    """

    changes: int
    generation: Generation
    videos: dict[int, Video]
    files: dict[int, list[File]]
    view: VectorView
    read: Callable[[int, int, int], QuantizedTokens | None]


def take_snapshot(catalog: Catalog, place: Place) -> Snapshot:
    """The library as it is now.

    Raises:
        LibraryError: If it is empty, or a writer removed old vectors meanwhile.
    """
    generation = next((g for g in catalog.list_generations() if g.current), None)
    if generation is None:
        raise LibraryError(f"{place.name}: is empty; add videos with r2tuning library add")
    files: dict[str, list[File]] = {}
    for file in catalog.list_files():
        if not file.missing:
            files.setdefault(file.identity, []).append(file)
    videos = {video.id: video for video in catalog.list_videos(generation.id) if video.identity in files}
    of_video = {number: files[video.identity] for number, video in videos.items()}
    view = place.index.view(catalog, generation.id)
    return Snapshot(catalog.count_changes(), generation, videos, of_video, view, place.read_projected)
