"""Fetches a large file so that whatever stops it, the next try goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # it is documented there

from r2tuning.errors import DownloadError, OutputError
from r2tuning.hub.failure import explain
from r2tuning.hub.listing import HubFile

Progress: TypeAlias = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows a step of the work while a block runs: from what is being done to a function of bytes done and their total."""


@contextmanager
def unwatched(step: str) -> Iterator[Callable[[int, int], None]]:
    """The `Progress` that shows nothing."""
    del step
    yield lambda *_: None


def fetch_file(file: HubFile, folder: Path, progress: Progress = unwatched) -> Path:
    """Fetches a file of the hub into a folder, unless it is there already, and checks its hash.

    What was received of it is kept in the folder, also when this process is stopped. The hub's client cannot do that:
    it goes on after a cut connection, but gives up what it has when it ends. Its bar is shown on stderr.

    Args:
        file: As listed by the hub.
        folder: Made if need be. One process at a time may fetch into it.
        progress: Shows the hash being computed.

    Returns:
        ``folder`` / name of the file.

    Raises:
        DownloadError: If the hub does not deliver, or something else than it listed; that is removed.
        OutputError: If the folder cannot be written or the disk is full.
    """
    whole, part = folder / file.name, _part(file, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if whole.is_file() and _hash(file, whole, progress) == file.digest:
            return whole
        _complete(file, part)
        found = _hash(file, part, progress)
        if found != file.digest:
            part.unlink()
            raise DownloadError(
                f"{file.name}: what was downloaded has hash {found[:8]}…, the hub states {file.digest[:8]}…; "
                "it was removed, try again"
            )
        part.replace(whole)
        for outdated in folder.glob(f"{file.name}.*.part"):
            outdated.unlink()
    except OSError as error:
        raise OutputError(
            f"{folder}: {file.name} cannot be written ({error.strerror}); "
            "free space or choose another folder; run it again to go on from there"
        ) from error
    return whole


def fetched_bytes(file: HubFile, folder: Path) -> int:
    """How much of a file `fetch_file` has in a folder already."""
    for kept in (folder / file.name, _part(file, folder)):
        if kept.is_file():
            return min(kept.stat().st_size, file.size)
    return 0


def _part(file: HubFile, folder: Path) -> Path:
    # The hash in its name keeps the beginning of one version from being completed with the end of another.
    return folder / f"{file.name}.{file.digest[:8]}.part"


def _hash(file: HubFile, copy: Path, progress: Progress) -> str:
    with progress(f"Checking {file.name}") as report:
        return file.hash_copy(copy, report)


def _complete(file: HubFile, part: Path) -> None:
    """Appends to ``part`` what it lacks."""
    if part.is_file() and part.stat().st_size > file.size:
        part.unlink()
    with part.open("ab") as stream:
        try:
            http_get(
                file.url,
                stream,
                resume_size=stream.tell(),
                # Compressed on the way, a position in the file would be none in what is sent.
                headers=build_hf_headers() | {"Accept-Encoding": "identity"},
                expected_size=file.size,
                displayed_filename=file.name,
            )
        except Exception as error:  # of the HTTP library or of the hub's client: they have no common base
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk; those of the network come wrapped and without a number
            raise DownloadError(
                f"{file.name}: cannot be downloaded: {explain(error)}; connect and run it again to go on from there"
            ) from error
