"""Finds the files of videos by name."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from r2tuning.errors import VideoError

VIDEO_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
)
"""Endings that files of videos have, in lower case."""


class VideoFolder:
    """The videos in a folder and the folders in it.

    Args:
        folder: Where the videos are.

    Raises:
        VideoError: If there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise VideoError(f"{folder}: no such folder; give the folder of the videos")
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._folder.rglob("*")):
            if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                self._by_stem[path.stem].append(path)

    def find(self, name: str) -> Path:
        """The file of a video.

        Args:
            name: The file's name without its ending, in whatever folder; or its path in this folder.

        Raises:
            VideoError: If there is none, or more than one.
        """
        if "\0" not in name and (self._folder / name).is_file():
            return self._folder / name
        found = self._by_stem.get(name, [])
        if not found:
            raise VideoError(f"{self._folder}: has no video called {name}; put {name}.mp4 or the like there")
        if len(found) > 1:
            files = " and ".join(str(path.relative_to(self._folder)) for path in found[:2])
            raise VideoError(f"{self._folder}: has several videos called {name} ({files}); keep one")
        return found[0]
