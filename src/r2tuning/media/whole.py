"""Large result files, written piece by piece, that are either complete or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from r2tuning.errors import OutputError
from r2tuning.output.files import check_target


@contextmanager
def write_whole(path: str | os.PathLike[str], *, force: bool) -> Iterator[Path]:
    """Gives a file to write to, which gets its name once the block is left without an error; else it is removed.

    Args:
        path: The file; a link stands for the file it leads to.
        force: Whether an existing file may be replaced.

    Yields:
        A file in the same folder that does not exist yet.

    Raises:
        OutputError: If the file may not be written (see `check_target`), or writing it fails.
    """
    target = check_target(path, force=force)
    temporary = target.parent / f".r2tuning-{secrets.token_hex(8)}.tmp"
    try:
        yield temporary
        check_target(path, force=force)  # it may have come about meanwhile
        temporary.replace(target)
    except (OSError, av.FFmpegError) as error:
        reason = error.strerror or error
        raise OutputError(f"{path} cannot be written ({reason}): free space or choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)
