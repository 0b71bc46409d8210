"""What a repository on the hub has, and by what a copy of it is known to be whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, hf_hub_url

from r2tuning.errors import DownloadError
from r2tuning.hub.digest import hash_blob, hash_file
from r2tuning.hub.failure import explain

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
