"""Fetches published checkpoints from the hub, once; afterwards they are used without any request."""

from __future__ import annotations

from pathlib import Path

from r2tuning.checkpoints.cache import cached_checkpoint
from r2tuning.checkpoints.layout import is_complete
from r2tuning.checkpoints.load import convert
from r2tuning.checkpoints.registry import REPOSITORY, PublishedCheckpoint
from r2tuning.errors import CheckpointError, DownloadError
from r2tuning.hub.digest import hash_file


def fetch_published(entry: PublishedCheckpoint) -> Path:
    """The checkpoint folder of a published model: downloaded, checked and converted on first use.

    The download goes through huggingface_hub, with its settings (``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HOME``), its
    cache and its progress bar on stderr.

    Returns:
        A folder in the cache (``R2TUNING_CACHE``, or the user's cache folder).

    Raises:
        DownloadError: If the file is in no cache and cannot be downloaded.
        CheckpointError: If what was downloaded does not have the published hash; it is removed again.
        OutputError: If the cache cannot be written.
    """
    folder = cached_checkpoint(entry)
    if not is_complete(folder):
        file = _download(entry)
        found = hash_file(file)
        if not found.startswith(entry.sha256_prefix):
            _discard(file)
            raise CheckpointError(
                f"{entry.name}: the downloaded file has SHA-256 {found[:8]}…, expected {entry.sha256_prefix}…; "
                "it was removed, try again"
            )
        convert(file, folder, entry)
    return folder


def _download(entry: PublishedCheckpoint) -> Path:
    """The authors' file in the hub's own cache."""
    # Its client takes a tenth of a second to import, and what is converted already does not need it.
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    from r2tuning.hub.failure import explain

    cached = try_to_load_from_cache(REPOSITORY, entry.file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # Asked first since hf_hub_download retries an unreachable hub for up to minutes before it says so.
        get_hf_file_metadata(hf_hub_url(REPOSITORY, entry.file))
        return Path(hf_hub_download(REPOSITORY, entry.file))
    except Exception as error:  # of the HTTP library, of Xet, of the system: they have no common base
        raise DownloadError(
            f"{entry.name}: cannot be downloaded: {explain(error)}; connect and try again, "
            f"or fetch {entry.url} by other means and pass its path with --model"
        ) from error


def _discard(file: Path) -> None:
    """Removes a file of the hub's cache with every link that leads to it, so that the next try starts afresh."""
    while file.is_symlink():
        target = file.parent / file.readlink()
        file.unlink()
        file = target
    file.unlink(missing_ok=True)
