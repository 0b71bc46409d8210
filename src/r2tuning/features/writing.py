"""Names of feature files, and files that are either complete or not there."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from r2tuning.errors import FeatureError

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
