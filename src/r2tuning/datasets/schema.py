"""Checks an entry against the fields it must have; a refusal names file, line and field."""

from __future__ import annotations

import reprlib
from difflib import get_close_matches
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from r2tuning.datasets.entries import Entry
from r2tuning.errors import DataError
from r2tuning.metrics.records import QueryId


class Fields(BaseModel):
    """Fields of an entry; others that a file has are ignored."""

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
    """The entry's values as ``fields``.

    Args:
        entry: What a file holds.
        fields: What it must hold.
        strict: Whether numbers must be numbers; False reads them from text, as CSV needs it.

    Raises:
        DataError: ``file:line: field: what is wrong``, for a field that is missing or has a wrong value. A missing
            optional field counts as misspelt where an unknown key is near.
    """
    unknown = [key for key in entry.values if key not in fields.model_fields]
    for name, field in fields.model_fields.items():
        if name in entry.values:
            continue
        near = get_close_matches(name, unknown, n=1, cutoff=0.75)
        if near:
            raise DataError(f"{entry.place}: {name}: is missing; rename {near[0]!r}?")
        if field.is_required():
            raise DataError(f"{entry.place}: {name}: is missing; the keys are {reprlib.repr(list(entry.values))}")
    try:
        return fields.model_validate(dict(entry.values), strict=strict)
    except ValidationError as error:
        raise DataError(f"{entry.place}: {_describe(error)}") from None


def _describe(error: ValidationError) -> str:
    """The first problem, as ``field: what``."""
    problem = error.errors(include_url=False)[0]
    name, *rest = problem["loc"]
    field = f"{name}" + "".join(f"[{part}]" for part in rest)
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: is {reprlib.repr(problem['input'])}; {message[0].lower()}{message[1:]}"
