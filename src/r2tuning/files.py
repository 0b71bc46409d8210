"""Files and folders: names, writing that is complete or leaves nothing behind, and reading with a guard.

What a file says is never trusted: `guard` turns whatever a parser raises into one line, and `read_file` takes regular
files of a sane size.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from reprlib import repr as shorten
from typing import TYPE_CHECKING, Any, TypeVar

from platformdirs import user_cache_dir

from r2tuning.errors import OutputError, R2TuningError, show_on_one_line
from r2tuning.types import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    Model = TypeVar("Model", bound=BaseModel)

LONGEST = 200
"""Bytes of a file's name without ending; file systems take 255."""

MOST_TEXT = 512 * 2**20
"""Bytes of the largest text file that is read; the benchmarks' annotations have up to 30 MB."""

MOST_SETTINGS = 2**20
"""Bytes of the largest file of settings, such as a recipe."""

_REASON = 150  # characters of what a parser says

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


def find_videos(folder: str) -> list[str]:
    """The video files in a folder and its subfolders, sorted; hidden ones and links to folders are left out."""
    found = []
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        videos = [n for n in names if Path(n).suffix.lower() in VIDEO_SUFFIXES and not n.startswith(".")]
        found += [os.path.join(place, name) for name in sorted(videos)]  # noqa: PTH118  (./ stays as written)
    return found


def relate(path: str, folder: Path) -> str:
    """A path as seen from a folder; from the root if it is on another drive. Links are not followed."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # another drive
        return str(Path(path).absolute())


@contextmanager
def guard(
    thing: object, error: type[R2TuningError], advice: str, model: type[BaseModel] | None = None
) -> Iterator[None]:
    """Lets a block read what is not trusted: whatever that raises becomes ``error``, in one line.

    Parsers have no common base for what they raise, and hostile content reaches corners that their authors did not
    think of: numbers of a million digits, nesting without end, sizes beyond any memory. Errors of ours pass unchanged.

    Args:
        thing: What is read, such as a path, or a path with a line.
        error: The kind of error.
        advice: What to do, such as "copy the checkpoint again".
        model: What the content is checked against, to suggest names of fields.

    Example:
        >>> with guard("a.json", R2TuningError, "correct it"):
        ...     int("one")
        Traceback (most recent call last):
        r2tuning.errors.R2TuningError: a.json: invalid literal for int() with base 10: 'one'; correct it
    """
    try:
        yield
    except Exception as cause:
        if isinstance(cause, R2TuningError) or type(cause).__name__ == "OutOfMemoryError":  # a GPU's, which is no fault
            raise
        raise error(f"{thing}: {explain(cause, model, 'cannot be read: ')}; {advice}") from cause


def explain(cause: Exception, model: type[BaseModel] | None = None, refused: str = "") -> str:
    """What went wrong in a few words; what the system says begins with ``refused``."""
    from pydantic import ValidationError

    if isinstance(cause, ValidationError):
        reason = first_problem(cause, model)
    elif isinstance(cause, OSError) and cause.strerror:
        reason = f"{refused}{cause.strerror}"
    elif type(cause).__name__ == "SafetensorError":
        reason = f"truncated or not a safetensors file ({cause})"
    elif isinstance(cause, UnicodeDecodeError):
        reason = f"not UTF-8 text: {cause.reason} at byte {cause.start}"
    elif isinstance(cause, KeyError):
        reason = f"lacks {cause}"
    elif isinstance(cause, MemoryError):
        reason = "asks for too much memory"
    elif isinstance(cause, RecursionError):
        reason = "is nested too deeply"
    else:
        reason = str(cause) or type(cause).__name__
    return show_on_one_line(reason, _REASON)


def read_file(path: str | os.PathLike[str], error: type[R2TuningError], advice: str, most: int = MOST_TEXT) -> bytes:
    """All bytes of a regular file of at most ``most``; a device or a pipe, which may never end, is ``error``."""
    with guard(path, error, advice):
        require_regular(path)
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ValueError(f"is larger than {most >> 20} MiB")
        return content


def require_regular(path: str | os.PathLike[str]) -> None:
    """Raises a ValueError or an OSError for what is no regular file; opening a pipe would wait for ever."""
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise ValueError("is no regular file")


def read_model(path: Path, model: type[Model], error: type[R2TuningError], advice: str) -> Model:
    """A JSON file as a pydantic model."""
    content = read_file(path, error, advice, MOST_SETTINGS)
    with guard(path, error, advice, model):
        return model.model_validate(parse_json(content))


def parse_json(text: bytes | str) -> Any:
    """The value of JSON text; a ValueError says that it is not JSON, and where."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


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
    temporary = name_temporary(target.parent)
    caught: tuple[type[Exception], ...] = (OSError, *refusals)
    try:
        yield temporary
        if not force:
            with suppress(OSError):  # unlike a rename, a link never takes the place of what was created meanwhile
                os.link(temporary, target)
                return
            check_target(path, force=force, error=error)
        temporary.replace(target)
    except caught as refusal:
        full = getattr(refusal, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        advice = "free space or choose another place" if full else "choose another place"
        raise error(f"{path} cannot be written ({explain(refusal)}): {advice}") from refusal
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


def flush_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk; nothing where the system has no such thing."""
    with suppress(OSError):  # Windows opens no folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def replace_folder(folder: Path, last: str | None = None) -> Iterator[Path]:
    """Lets a block fill an empty folder, which becomes ``folder`` if the block succeeds.

    Where ``folder`` exists, its other files stay; the file ``last`` is removed first and comes last, so that readers
    who find it find the others too.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = name_temporary(folder.parent)
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
    """Removes what killed runs left in a folder.

    That is temporary files and folders of processes of this machine that are gone, and those of other machines that are
    ``age`` seconds old.
    """
    for part in folder.glob(".*.part"):
        with suppress(OSError):  # finished by another run meanwhile, or another user's
            status = part.lstat()
            _, host, process, own, *_ = *part.stem.split("-"), "", "", ""
            if host == _host() and process.isdigit():
                # A container's processes have the same numbers each time it starts.
                keep = own == _OWN if int(process) == os.getpid() else _is_alive(int(process))
            else:
                keep = time.time() - status.st_mtime < age
            if keep:
                continue
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(part)
            else:
                part.unlink()


def name_temporary(folder: Path) -> Path:
    """A new name in a folder for a file that this process will move or remove; what dead ones left is removed first."""
    _sweep(folder.absolute())
    # Not made of the target's name, which may be as long as the system allows.
    return folder / f".r2tuning-{_host()}-{os.getpid()}-{_OWN}-{secrets.token_hex(8)}.part"


_OWN = secrets.token_hex(4)


@cache
def _sweep(folder: Path) -> None:  # once per process: a store may have many thousand files
    remove_leftovers(folder)


@cache
def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


# Also the wide forms, which spreadsheets in Japanese take for the others.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def quote_formula(cell: str) -> str:
    """Puts an apostrophe before a cell of a CSV file that a spreadsheet would run; numbers stay as they are.

    Example:
        >>> quote_formula("=HYPERLINK(1)"), quote_formula("a dog"), quote_formula("-1.500")
        ("'=HYPERLINK(1)", 'a dog', '-1.500')
        >>> unquote_formula(quote_formula("=1+1"))
        '=1+1'
    """
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def unquote_formula(cell: str) -> str:
    """Takes off the apostrophe of `quote_formula`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


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
    if not key and problem["type"] == "model_type":
        return f"holds a {type(problem['input']).__name__}, not an object"
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
