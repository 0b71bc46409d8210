"""Files and folders: the cache, names, checked targets, and writing that is complete or leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from reprlib import repr as shorten
from typing import TYPE_CHECKING

from platformdirs import user_cache_dir

from r2tuning.errors import OutputError, R2TuningError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

LONGEST = 200
"""Bytes of a file's name without ending; file systems take 255."""

# What would leave the folder, hide the file, or cannot be in a name; % itself, so that no two names meet.
_UNSAFE = re.compile(r"[%/\\\x00-\x1f\x7f\ud800-\udfff]|^\.")


def cache_folder() -> Path:
    """``$R2TUNING_CACHE``, or else ``r2tuning`` in the user's cache folder."""
    chosen = os.environ.get("R2TUNING_CACHE")
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("r2tuning", appauthor=False))


def file_name(name: str, suffix: str) -> str:
    """A file name for any text, different for each: the benchmarks' ids stay as they are, any other text is made safe.

    Slashes, control characters and the like become ``%XX``; a long name is cut and gets a hash.

    Example:
        >>> file_name("../trips/a 100%.mp4", ".npy")
        '%2E.%2Ftrips%2Fa 100%25.mp4.npy'
    """
    safe = _UNSAFE.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode("utf-8", "surrogatepass")), name)
    encoded = safe.encode()
    if len(encoded) > LONGEST:
        digest = hashlib.sha256(encoded).hexdigest()[:32]
        safe = f"{encoded[: LONGEST - 33].decode(errors='ignore')}%{digest}"
    return (safe or "%") + suffix


def check_target(path: str | os.PathLike[str], *, force: bool, error: type[R2TuningError] = OutputError) -> Path:
    """Checks that a file may be written, before a long computation; returns it with links followed.

    An existing file may be replaced only with ``force``.
    """
    target = Path(os.path.realpath(path))
    try:
        exists = target.exists()
    except OSError as refusal:  # such as a name that is too long
        raise error(f"{path} cannot be written ({refusal.strerror}): choose another name or folder") from None
    if target.is_dir():
        raise error(f"{path} cannot be written, it is a folder: give the name of a file in it")
    if exists and not target.is_file():
        # Renaming a file over a device or a pipe would remove it from the system.
        raise error(f"{path} is a device or a pipe: give the name of a file, or - for stdout")
    if exists and not force:
        raise error(f"{path} exists: choose another name, or replace it with --force")
    if not target.parent.is_dir():
        raise error(f"{path} cannot be written, there is no folder {target.parent}: create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise error(f"{path} cannot be written, folder {target.parent} is not writable: choose another")
    return target


@contextmanager
def replace_file(
    path: str | os.PathLike[str],
    *,
    force: bool = True,
    error: type[R2TuningError] = OutputError,
    refusals: tuple[type[Exception], ...] = (),
) -> Iterator[Path]:
    """Lets a block write a temporary file, which takes the place of ``path`` if the block succeeds.

    The temporary file does not exist yet and lies in the same folder. ``refusals`` are what the writing library raises,
    besides OSError, when the system refuses; they become ``error``, as do the problems of `check_target`.
    """
    target = check_target(path, force=force, error=error)
    temporary = target.parent / _temporary_name()
    caught: tuple[type[Exception], ...] = (OSError, *refusals)
    try:
        yield temporary
        if not force:
            check_target(path, force=force, error=error)  # it may have been created meanwhile
        temporary.replace(target)
    except caught as refusal:
        reason = getattr(refusal, "strerror", None) or str(refusal).partition("\n")[0]
        raise error(f"{path} cannot be written ({reason}): free space or choose another place") from refusal
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_atomically(
    path: str | os.PathLike[str],
    data: bytes | str,
    *,
    force: bool,
    error: type[R2TuningError] = OutputError,
) -> None:
    """Writes bytes, or text as UTF-8, in one step: a reader sees the old content or all of the new."""
    with replace_file(path, force=force, error=error) as temporary, temporary.open("xb") as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replace_folder(folder: Path, last: str | None = None) -> Iterator[Path]:
    """Lets a block fill an empty folder, which becomes ``folder`` if the block succeeds.

    Where ``folder`` exists, its other files stay; the file ``last`` is removed first and comes last, so that readers
    who find it find the others too.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / _temporary_name()
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(folder)  # the one atomic step, where nothing is there yet
        except OSError:
            if last is None or not folder.is_dir():
                raise
            (folder / last).unlink(missing_ok=True)
            for file in sorted(temporary.iterdir(), key=lambda file: file.name == last):
                file.replace(folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path, age: float = 3600) -> None:
    """Removes what killed runs left in a folder: temporary files and folders untouched for ``age`` seconds."""
    for part in folder.glob(".*.part"):
        with suppress(FileNotFoundError):  # finished by another run meanwhile
            if time.time() - part.stat().st_mtime < age:
                continue
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink()


def _temporary_name() -> str:
    # Not made of the target's name, which may be as long as the system allows.
    return f".r2tuning-{secrets.token_hex(8)}.part"


def first_problem(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first wrong field of a validation, in one line; with ``model``, an unknown field gets the nearest valid one.

    Example:
        >>> from pydantic import BaseModel, ConfigDict, ValidationError
        >>> class Optimizer(BaseModel, extra="forbid"):
        ...     lr: float
        >>> try:
        ...     Optimizer.model_validate({"lr": 1, "learning_rate": 2})
        ... except ValidationError as error:
        ...     first_problem(error, Optimizer)
        'unknown key learning_rate; did you mean lr?'
    """
    problem = error.errors(include_url=False)[0]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "missing":
        return f"{key}: is missing"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}{_suggest_key(key, model) if model else ''}"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict):  # a check of several fields, which names their values
        return f"{key}: {message}" if key else message
    return f"{key or 'content'}: is {shorten(problem['input'])}; {message[0].lower()}{message[1:]}"


def _suggest_key(key: str, model: type[BaseModel]) -> str:
    valid = list(_list_keys(model, ""))
    last = key.rsplit(".", 1)[-1]
    initials = "".join(word[0] for word in last.split("_") if word)  # learning_rate for lr
    near = [name for name in valid if name.rsplit(".", 1)[-1] in (last, initials)]
    near = near or get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; valid are {', '.join(model.model_fields)}"


def _list_keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(inner := field.annotation, type) and hasattr(inner, "model_fields"):
            yield from _list_keys(inner, f"{prefix}{name}.")
