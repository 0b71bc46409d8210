"""The Hugging Face hub: list a repository, fetch files, check their hashes, and say what went wrong.

Requests go through the hub's client, so its settings hold: ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HOME``, tokens.
Importing that takes a tenth of a second, which is why only the functions that need it do so.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias

from r2tuning.errors import DownloadError, OutputError

if TYPE_CHECKING:
    from hashlib import _Hash

Progress: TypeAlias = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows a step while a block runs: takes its description, yields a function of the bytes done and their total."""


@contextmanager
def no_progress(step: str) -> Iterator[Callable[[int, int], None]]:
    """The `Progress` that shows nothing."""
    del step
    yield lambda *_: None


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    return _hash(path, hashlib.sha256(), lambda *_: None)


def _hash(path: Path, digest: _Hash, report: Callable[[int, int], None]) -> str:
    size, done = path.stat().st_size, 0
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
            done += len(piece)
            report(done, size)
    return digest.hexdigest()


_RANGE = 1 << 16

_DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")

WINDOW, LEAST = 60, 1 << 16
"""A download that delivers fewer than so many bytes in so many seconds is given up."""


def identify_file(path: str | os.PathLike[str]) -> str:
    """What tells a large file from others without reading it whole: its size, and a hash of three ranges.

    Example:
        >>> identify_file(os.devnull)
        '0:e3b0c44298fc1c149afbf4c8996fb924'
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        for start in (0, size // 2, max(0, size - _RANGE)):
            stream.seek(start)
            digest.update(stream.read(_RANGE))
    return f"{size}:{digest.hexdigest()[:32]}"


@dataclass(frozen=True)
class HubFile:
    """A file of a model repository at one commit.

    Its digest is the SHA-256 (64 hex digits) of a large file, or Git's blob id (40 hex digits) of a small one.
    """

    repository: str
    commit: str
    path: str
    size: int
    digest: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    def hash_copy(self, copy: Path, progress: Progress) -> str:
        """The hash of a local copy, of the kind that the hub lists for this file."""
        if len(self.digest) == 64:
            digest = hashlib.sha256()
        else:  # Git's object format: a header with the size, then the content
            digest = hashlib.sha1(b"blob %d\0" % copy.stat().st_size, usedforsecurity=False)
        with progress(f"Checking {self.name}") as report:
            return _hash(copy, digest, report)


def list_files(repository: str) -> tuple[HubFile, ...]:
    """All files of a model repository at its latest commit, with one request."""
    from huggingface_hub import HfApi, constants

    with _explained(f"{repository}: cannot be listed", "connect and try again"):
        info = HfApi().model_info(repository, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    files = []
    for entry in info.siblings or ():
        digest = entry.lfs.sha256 if entry.lfs else entry.blob_id
        if info.sha and digest and entry.size is not None:
            files.append(HubFile(repository, info.sha, entry.rfilename, entry.size, digest))
    return tuple(files)


def reach_hub(repository: str, limit: float = 3.0) -> str:
    """The address of the hub, if it says within ``limit`` seconds that it has a repository.

    Raises:
        DownloadError: If it does not; its ``reason`` says why.
    """
    from huggingface_hub import HfApi, constants

    failures: list[Exception] = []

    def ask() -> None:
        try:
            with _explained(f"{repository}: the hub cannot be asked", "connect and try again"):
                HfApi().model_info(repository, timeout=limit)
        except Exception as error:  # which the caller raises
            failures.append(error)

    # The client's limit holds for each step alone, and for looking up the name not at all.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(limit)
    if asking.is_alive():
        reason = f"{constants.ENDPOINT} did not answer in {limit:g} s"
        raise DownloadError(f"{repository}: {reason}; connect and try again", reason)
    if failures:
        raise failures[0]
    return constants.ENDPOINT


def free_space(folder: Path) -> int:
    """Bytes free on the disk that ``folder`` is on, or will be on."""
    return shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.exists())).free


def hub_cache() -> Path:
    """The folder in which the hub's client keeps repositories; other programs use it too."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_repository(repository: str) -> Path:
    """The folder of a model repository in the hub client's cache, whether or not it exists."""
    return hub_cache() / f"models--{repository.replace('/', '--')}"


def find_damaged(repository: str, progress: Progress = no_progress) -> list[str]:
    """Names of the cached files of a model repository whose content does not have the hash in its name.

    It reads all of them. That does not count as their use: the times of access are put back.
    """
    folder = cached_repository(repository)
    names = {link.resolve().name: link.name for link in folder.glob("snapshots/*/**/*") if link.is_symlink()}
    damaged = []
    for blob in sorted(folder.glob("blobs/*")):
        if not _DIGEST.fullmatch(blob.name) or not blob.is_file():
            continue
        status = blob.stat()
        file = HubFile(repository, "", names.get(blob.name, blob.name), status.st_size, blob.name)
        if file.hash_copy(blob, progress) != blob.name:
            damaged.append(file.name)
        with suppress(OSError):  # another user's
            os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))
    return damaged


def fetch_cached(repository: str, path: str, *, name: str, advice: str) -> Path:
    """A file of a model repository in the hub client's cache, fetched into it unless it is there.

    A cached file costs no request. A download that was interrupted is resumed, even in another process. A bar is shown
    on stderr. An error calls the file ``name`` and ends with ``advice``.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    cached = try_to_load_from_cache(repository, path)
    if isinstance(cached, str):
        return Path(cached)
    problem, file = f"{name}: cannot be downloaded", None
    try:
        # hf_hub_download retries an unreachable hub for minutes, this request does not. That a file does not exist is
        # left to hf_hub_download, whose cache remembers it.
        with _explained(problem, advice), suppress(EntryNotFoundError):
            found = get_hf_file_metadata(hf_hub_url(repository, path))
            file = HubFile(repository, found.commit_hash or "", path, found.size or 0, found.etag or "")
        if file is not None and file.commit and file.size and _DIGEST.fullmatch(file.digest):
            _fetch_content(file, problem, advice)
        with _explained(problem, advice):
            return Path(hf_hub_download(repository, path))
    except OSError as error:
        raise OutputError(f"{name}: the hub's cache cannot be written ({error.strerror}); free space") from error


def _fetch_content(file: HubFile, problem: str, advice: str) -> None:
    """Fetches the content of a large file to where the hub's client finds it, and resumes what was fetched before.

    The client only resumes a cut connection, and discards what it has when it ends.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # it is documented there

    folder = cached_repository(file.repository)
    content = folder / "blobs" / file.digest
    lock = hub_cache() / ".locks" / folder.name / f"{file.digest}.lock"  # which the client takes too
    for place in (content.parent, lock.parent):
        place.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if content.exists():
            return
        part = _part(file, content.parent)
        _complete(file, part, problem, advice)
        _check(file, part, no_progress)
        part.replace(content)


def fetch_optional(repository: str, path: str, *, name: str, advice: str) -> Path | None:
    """As `fetch_cached`, but None if the repository has no such file."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return fetch_cached(repository, path, name=name, advice=advice)
    except DownloadError as error:
        if isinstance(error.__cause__, RemoteEntryNotFoundError):
            return None
        raise


def fetch_file(file: HubFile, folder: Path, progress: Progress = no_progress) -> Path:
    """Fetches a file into a folder, unless it is there already, and checks its hash.

    What was received stays in the folder, and the next call resumes it, even in another process. (The hub's client only
    resumes a cut connection, and discards what it has when it ends.) A bar is shown on stderr. One process at a time
    may fetch into a folder. A file that is not what the hub listed is removed.
    """
    whole, part = folder / file.name, _part(file, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if whole.is_file() and file.hash_copy(whole, progress) == file.digest:
            return whole
        _complete(file, part, f"{file.name}: cannot be downloaded", "connect and run it again to resume")
        _check(file, part, progress)
        part.replace(whole)
        for outdated in folder.glob(f"{file.name}.*.part"):
            outdated.unlink()
    except OSError as error:
        raise OutputError(
            f"{folder}: {file.name} cannot be written ({error.strerror}); "
            "free space or choose another folder; run it again to resume"
        ) from error
    return whole


def fetched_bytes(file: HubFile, folder: Path) -> int:
    """How much of a file `fetch_file` has in a folder already."""
    for kept in (folder / file.name, _part(file, folder)):
        if kept.is_file():
            return min(kept.stat().st_size, file.size)
    return 0


def _part(file: HubFile, folder: Path) -> Path:
    # With the hash in its name, the beginning of one version is never completed with the end of another.
    return folder / f"{file.name}.{file.digest[:8]}.part"


def _check(file: HubFile, part: Path, progress: Progress) -> None:
    """Removes what was downloaded if it is not what the hub listed."""
    found = file.hash_copy(part, progress)
    if found != file.digest:
        part.unlink()
        raise DownloadError(
            f"{file.name}: what was downloaded has hash {found[:8]}…, the hub states {file.digest[:8]}…; "
            "it was removed, try again"
        )


def _complete(file: HubFile, part: Path, problem: str, advice: str) -> None:
    """Appends to ``part`` what it lacks."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # it is documented there

    if part.is_file() and part.stat().st_size > file.size:
        part.unlink()
    with part.open("ab") as stream, _explained(problem, advice):
        http_get(
            hf_hub_url(file.repository, file.path, revision=file.commit),
            stream,
            resume_size=stream.tell(),
            # A byte range of a compressed response would not be one of the file.
            headers=build_hf_headers() | {"Accept-Encoding": "identity"},
            expected_size=file.size,
            displayed_filename=file.name,
        )


@contextmanager
def _steady() -> Iterator[None]:
    """Ends downloads that deliver next to nothing: the client only notices silence."""
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["response"]
    hooks.append(_watch)
    try:
        yield
    finally:
        hooks.remove(_watch)


def _watch(response: Any) -> None:
    stream = response.stream
    base = next(kind for kind in type(stream).__mro__ if kind.__name__ == "SyncByteStream")  # which the client asks for

    def deliver(_: object) -> Iterator[bytes]:
        since, received = time.monotonic(), 0
        for piece in stream:
            yield piece
            received += len(piece)
            if time.monotonic() - since > WINDOW:
                if received < LEAST:
                    raise TimeoutError(f"{received} bytes in {WINDOW} s")
                since, received = time.monotonic(), 0

    response.stream = type("Watched", (base,), {"__iter__": deliver, "close": lambda _: stream.close()})()


@contextmanager
def _explained(problem: str, advice: str) -> Iterator[None]:
    """Turns what the hub's client raises into a `DownloadError`; errors of the disk pass."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        with _steady():
            yield
    except Exception as error:  # of the HTTP library, of Xet, or of the system: they have no common base
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; the client wraps those of the network, which then have no number
        if isinstance(error, OfflineModeIsEnabled):
            reason = "offline mode is on (HF_HUB_OFFLINE)"
        elif isinstance(error, HfHubHTTPError):
            reason = f"{constants.ENDPOINT} answered {error.response.status_code}"
        else:
            first_line = (str(error).splitlines() or [""])[0]
            reason = f"{constants.ENDPOINT} did not deliver it ({first_line or type(error).__name__})"
        raise DownloadError(f"{problem}: {reason}; {advice}", reason) from error
