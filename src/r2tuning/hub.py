"""The Hugging Face hub: list a repository, fetch with resume, check hashes, explain failures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # it is documented there

from r2tuning.errors import DownloadError, OutputError

if TYPE_CHECKING:
    from hashlib import _Hash


PIECE = 1 << 20
"""Bytes read at a time."""


def hash_file(path: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """SHA-256 of a file, as 64 hex digits: what the hub states of large files.

    Args:
        path: The file.
        progress: Called with the bytes done and their total.
    """
    return _hash(path, hashlib.sha256(), progress)


def hash_blob(path: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """Git's id of a file's content, as 40 hex digits: what the hub states of small files.

    It is the SHA-1 of a header with the size, and the content (Git's object format).

    Args:
        path: The file.
        progress: Called with the bytes done and their total.
    """
    header = b"blob %d\0" % path.stat().st_size
    return _hash(path, hashlib.sha1(header, usedforsecurity=False), progress)


def _hash(path: Path, digest: _Hash, progress: Callable[[int, int], None] | None) -> str:
    size, done = path.stat().st_size, 0
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done, size)
    return digest.hexdigest()


def explain(error: Exception) -> str:
    """Half a sentence about what the hub's client raised: of HTTP, of Xet, of the system."""
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on (HF_HUB_OFFLINE)"
    if isinstance(error, HfHubHTTPError):
        return f"{constants.ENDPOINT} answered {error.response.status_code}"
    reason = (str(error).splitlines() or [""])[0]
    return f"{constants.ENDPOINT} did not deliver it ({reason or type(error).__name__})"


SHA256_DIGITS = 64


@dataclass(frozen=True)
class HubFile:
    """A file of a model repository at one commit.

    Attributes:
        repository: ``owner/name``.
        commit: Git's id of the commit.
        path: In the repository.
        size: Bytes.
        digest: SHA-256 (64 hex digits) of a large file; Git's blob id (40 hex digits) of a small one.
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

    @property
    def url(self) -> str:
        """Where to get it, at ``HF_ENDPOINT``."""
        return hf_hub_url(self.repository, self.path, revision=self.commit)

    def hash_copy(self, copy: Path, progress: Callable[[int, int], None] | None = None) -> str:
        """What ``digest`` would be if ``copy`` were the file."""
        return (hash_file if len(self.digest) == SHA256_DIGITS else hash_blob)(copy, progress)


def list_files(repository: str) -> tuple[HubFile, ...]:
    """All files of a model repository at its latest commit, with one request.

    Raises:
        DownloadError: If the hub cannot be reached or has no such repository.
    """
    try:
        info = HfApi().model_info(repository, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # of the HTTP library or of the system: they have no common base
        raise DownloadError(f"{repository}: cannot be listed: {explain(error)}; connect and try again") from error
    files = []
    for entry in info.siblings or ():
        digest = entry.lfs.sha256 if entry.lfs else entry.blob_id
        if info.sha and digest and entry.size is not None:
            files.append(HubFile(repository, info.sha, entry.rfilename, entry.size, digest))
    return tuple(files)


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
        if whole.is_file() and _hash_copy(file, whole, progress) == file.digest:
            return whole
        _complete(file, part)
        found = _hash_copy(file, part, progress)
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


def _hash_copy(file: HubFile, copy: Path, progress: Progress) -> str:
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
