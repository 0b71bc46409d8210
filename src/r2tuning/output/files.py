"""Result files that are either complete or not there."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from r2tuning.errors import OutputError


def check_target(path: str | os.PathLike[str], *, force: bool) -> Path:
    """Checks that a file may be written, so that a long computation need not end in a refusal.

    Args:
        path: The file to be written; a link stands for the file it leads to.
        force: Whether an existing file may be replaced.

    Returns:
        The file with links followed, in a folder that exists.

    Raises:
        OutputError: If the folder is missing or not writable, if ``path`` is no regular file, or if it exists
            and ``force`` is False.
    """
    target = Path(os.path.realpath(path))
    try:
        exists = target.exists()
    except OSError as error:  # such as a name that is too long
        raise OutputError(f"{path} cannot be written ({error.strerror}): choose another name or folder") from None
    if target.is_dir():
        raise OutputError(f"{path} is a folder: give the name of a file in it")
    if exists and not target.is_file():
        # Renaming a file over a device or a pipe would remove it from the system.
        raise OutputError(f"{path} is a device or a pipe: give the name of a file, or - for stdout")
    if exists and not force:
        raise OutputError(f"{path} exists: choose another name, or replace it with --force")
    if not target.parent.is_dir():
        raise OutputError(f"{path} cannot be written, there is no folder {target.parent}: create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be written, folder {target.parent} is not writable: choose another")
    return target


def write_atomically(path: str | os.PathLike[str], data: bytes | str, *, force: bool) -> None:
    """Writes a file in one step: whoever looks sees the old content or all of the new.

    Args:
        path: The file; a link stands for the file it leads to.
        data: The content; text is written as UTF-8 with its line breaks as they are.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: If the file may not be written (see `check_target`), or the system refuses (disk full).
    """
    target = check_target(path, force=force)
    content = data.encode("utf-8") if isinstance(data, str) else data
    # A name of its own, since the target's may be as long as the system allows already.
    temporary = target.parent / f".r2tuning-{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}): free space or choose another place") from None
    finally:
        temporary.unlink(missing_ok=True)
