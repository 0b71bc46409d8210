"""Annotation files as text: JSON Lines, JSON and CSV, and the check of each entry against its fields."""

from __future__ import annotations

import csv
import reprlib
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

from r2tuning.errors import DataError
from r2tuning.files import guard, parse_json, read_file, unquote_formula
from r2tuning.metrics.records import QueryId


@dataclass(frozen=True)
class Entry:
    """One unchecked entry of a file, at ``file:line``, or at ``file:key`` in a file that is one JSON object."""

    place: str
    values: Mapping[str, Any]
    key: str | None = None
    decimal_comma: bool = False
    """Whether numbers in text may be written with a comma, as where columns are separated by semicolons."""


def read_json(path: Path) -> list[Entry]:
    """Entries of a ``.jsonl`` (an object per line) or ``.json`` file (objects by name, or an array of them)."""
    ending = path.suffix.lower()
    if ending == ".jsonl":
        entries = [_to_entry(f"{path}:{line}", _parse(f"{path}:{line}", text)) for line, text in _read_lines(path)]
    elif ending == ".json":
        # Joined again: lines are decoded one by one, to name the one that is not UTF-8.
        content = _parse(str(path), "\n".join(text for _, text in _read_lines(path, blank=True)))
        if isinstance(content, dict):
            entries = [_to_entry(f"{path}:{key}", value, key) for key, value in content.items()]
        elif isinstance(content, list):
            entries = [_to_entry(f"{path}:[{index}]", value) for index, value in enumerate(content)]
        else:
            raise DataError(f"{path}: holds {content!r:.40}; give an object or an array of objects")
    else:
        raise DataError(f"{path}: the ending {path.suffix!r} is unknown; give a .jsonl or .json file")
    return _require_some(path, entries)


def read_csv(path: Path) -> list[Entry]:
    """Entries of a CSV file with a header; the values are text.

    Columns are separated by commas, or by semicolons or tabs where the header has no comma; lines end in LF, CR LF or,
    as old Excel for Mac writes them, CR.
    """
    # A quoted value may span lines, so the reader counts them itself.
    # It gets every line, blank ones too, for its count to be the file's.
    lines = [text for _, text in _read_lines(path, blank=True, old_mac=True)]
    first = next((text for text in lines if text.strip()), "")
    separator = "," if "," in first else next((mark for mark in ";\t" if mark in first), ",")
    rows = csv.reader((text + "\n" for text in lines), strict=True, delimiter=separator)
    header: list[str] | None = None
    entries: list[Entry] = []
    while True:
        place = f"{path}:{rows.line_num + 1}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{place}: not CSV: {error}; put quotes around text, and two for one inside") from None
        if row is None:
            return _require_some(path, entries)
        if not any(value.strip() for value in row):
            continue
        if header is None:
            header = [name.strip() for name in row]
            if twice := [name for name in header if header.count(name) > 1]:
                raise DataError(
                    f"{place}: {len(row)} columns, {header.count(twice[0])} of them called {twice[0]!r}; keep one"
                )
        elif len(row) != len(header):
            raise DataError(
                f"{place}: {len(row)} values for {len(header)} columns ({', '.join(header)}); "
                f"put text with {'tabs' if separator == chr(9) else repr(separator)} in quotes"
            )
        else:
            # As our own CSV writes them, formulas are behind an apostrophe.
            values = dict(zip(header, map(unquote_formula, row), strict=True))
            entries.append(Entry(place, values, decimal_comma=separator != ","))


def _read_lines(path: Path, *, blank: bool = False, old_mac: bool = False) -> Iterator[tuple[int, str]]:
    """Numbers (from 1) and texts of the lines, with or without blank ones; CR may end them where there is no LF."""
    content = read_file(path, DataError, "check the path")
    if old_mac and b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    # Only \n ends a line: str.splitlines would also split at U+2028 and others, which JSON allows within a string.
    for number, line in enumerate(content.removeprefix(BOM_UTF8).split(b"\n"), start=1):
        try:
            text = line.decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise DataError(
                f"{path}:{number}: not UTF-8: byte 0x{byte:02x} at position {error.start}; save the file as UTF-8"
            ) from None
        if blank or text.strip():
            yield number, text


def _parse(place: str, text: str) -> Any:
    with guard(place, DataError, "correct the line"):
        return parse_json(text)


def _to_entry(place: str, value: Any, key: str | None = None) -> Entry:
    if not isinstance(value, dict):
        raise DataError(f'{place}: holds a {type(value).__name__}; give an object, {{"key": value, …}}')
    return Entry(place, value, key)


def _require_some(path: Path, entries: list[Entry]) -> list[Entry]:
    if not entries:
        raise DataError(f"{path}: has no annotations; check that it is complete")
    return entries


class Fields(BaseModel):
    """The fields that an entry must have; others are ignored."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


def _check_text(value: str) -> str:
    if not value.strip():
        raise ValueError("write at least one character")
    return value


def _check_qid(value: object) -> QueryId:
    # bool is an int to Python, and True would be the same id as 1.
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError("give an integer or a string")
    return value


Text = Annotated[str, AfterValidator(_check_text)]
Qid = Annotated[QueryId, PlainValidator(_check_qid)]
# 11 days. A larger number is no time in seconds, and would ask for that many label rows.
Seconds = Annotated[float, Field(ge=-1e6, le=1e6)]
Duration = Annotated[float, Field(gt=0, le=1e6)]
Window = Annotated[list[Seconds], Field(min_length=2, max_length=2)]

Checked = TypeVar("Checked", bound=Fields)


def check(entry: Entry, fields: type[Checked], *, strict: bool = True) -> Checked:
    """The entry's values as ``fields``, or a DataError ``file:line: field: what is wrong``.

    A missing optional field counts as misspelled where an unknown key is near. Without ``strict``, numbers are also
    read from text, as CSV needs it.
    """
    unknown = [key for key in entry.values if key not in fields.model_fields]
    for name, field in fields.model_fields.items():
        if name in entry.values:
            continue
        if near := get_close_matches(name, unknown, n=1, cutoff=0.75):
            raise DataError(f"{entry.place}: {name}: is missing; rename {near[0]!r}?")
        if field.is_required():
            raise DataError(f"{entry.place}: {name}: is missing; the keys are {reprlib.repr(list(entry.values))}")
    with guard(entry.place, DataError, "correct it"):
        return fields.model_validate(dict(entry.values), strict=strict)
