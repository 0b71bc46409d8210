"""Files and folders of this machine: the cache, checked targets, and writing that is all or nothing."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_dir
from safetensors import SafetensorError

from r2tuning.errors import FeatureError, OutputError


def cache_folder() -> Path:
    """``$R2TUNING_CACHE``, or else ``r2tuning`` in the user's cache folder."""
    chosen = os.environ.get("R2TUNING_CACHE")
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("r2tuning", appauthor=False))


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
    import av

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


LONGEST = 200
"""Bytes of a file's name without ending; file systems take 255, and a temporary file's name is longer."""

ABANDONED = 3600.0
"""Seconds after which a temporary file that nobody writes to counts as left over from a killed run."""

# What would leave the folder, hide the file, or cannot be in a name; % itself, so that no two names meet.
_UNSAFE = re.compile(r"[%/\\\x00-\x1f\x7f\ud800-\udfff]|^\.")


def file_name(name: str, suffix: str) -> str:
    """The file of a video or query; the ids of the benchmarks stay as they are, and any other is made safe.

    Args:
        name: Any text.
        suffix: The file's ending, with its dot.

    Returns:
        A name in one folder, a different one for each text; slashes, control characters and the like as ``%XX``, and
        what is too long shortened to its beginning and a hash.

    Example:
        >>> file_name("RoripwjYFp8_60.0_210.0", ".npy")
        'RoripwjYFp8_60.0_210.0.npy'
        >>> file_name("../trips/a 100%.mp4", ".npy")
        '%2E.%2Ftrips%2Fa 100%25.mp4.npy'
    """
    safe = _UNSAFE.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode("utf-8", "surrogatepass")), name)
    encoded = safe.encode()
    if len(encoded) > LONGEST:
        digest = hashlib.sha256(encoded).hexdigest()[:32]
        safe = f"{encoded[: LONGEST - 33].decode(errors='ignore')}%{digest}"
    return (safe or "%") + suffix


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Lets the block write a temporary file, which takes the place of ``path`` once the block is through.

    Args:
        path: The file to make, in a folder that exists.

    Yields:
        The file to write.

    Raises:
        FeatureError: If the system refuses.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise FeatureError(f"{path}: cannot be written ({error}); free space or choose another folder") from error
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of killed runs; those of a run that is under way are left alone."""
    for part in folder.glob(".*.part"):
        with suppress(FileNotFoundError):  # finished by another run meanwhile
            if time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink()
