"""Where fetched checkpoints are kept. Costs no PyTorch and no network."""

from __future__ import annotations

from pathlib import Path

from r2tuning.checkpoints.layout import is_complete
from r2tuning.checkpoints.registry import PublishedCheckpoint, find_published
from r2tuning.folders import cache_folder


def cached_checkpoint(entry: PublishedCheckpoint) -> Path:
    """The checkpoint folder that ``entry`` has in the cache, whether or not it is there yet.

    The hash is part of its name: a file that is published anew is fetched anew.

    Example:
        >>> cached_checkpoint(find_published("tvsum/BK")).relative_to(cache_folder()).as_posix()
        'checkpoints/tvsum/BK-45b59440'
    """
    return cache_folder() / "checkpoints" / f"{entry.name}-{entry.sha256_prefix}"


def is_cached(name: str) -> bool:
    """Whether the published checkpoint ``name`` can be used without a network.

    Raises:
        CheckpointError: If no such checkpoint is published.
    """
    return is_complete(cached_checkpoint(find_published(name)))
