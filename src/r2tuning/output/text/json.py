"""Results as JSON and JSON Lines; `Grounding.to_dict` and `Summary.to_dict` define the keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from r2tuning.errors import DataError, OutputError
from r2tuning.files import guard, parse_json, read_file
from r2tuning.results import Grounding, Summary


def to_json(results: Sequence[Grounding | Summary]) -> str:
    """Writes results as a list, in strict JSON (RFC 8259): NaN and infinity are an `OutputError`."""
    return _dump([result.to_dict() for result in results], 2)


def to_jsonl(results: Sequence[Grounding | Summary]) -> str:
    """Writes each result on its own line, with the same keys as `to_json`."""
    return "".join(_dump(result.to_dict(), None) for result in results)


def to_object(results: Sequence[Summary]) -> str:
    """Writes a single result as an object, and several as a list of them."""
    return _dump(results[0].to_dict(), 2) if len(results) == 1 else to_json(results)


def _dump(content: object, indent: int | None) -> str:
    try:
        text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise OutputError(
            f"result holds NaN or infinity, which JSON cannot hold ({error}): "
            "check the video features and the checkpoint for damage"
        ) from None
    # File names that are not UTF-8 hold lone surrogates, which become JSON's escape \udcxx.
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def read_answers(path: Path) -> list[Grounding]:
    """Reads the answers, at least one, of a JSON file that ``r2tuning ground`` wrote."""
    advice = "give a .json file of r2tuning ground"
    text = read_file(path, DataError, "check the path")
    with guard(path, DataError, advice):
        content = parse_json(text)
        if not isinstance(content, list) or not content:
            raise ValueError("holds no list of answers")
    try:
        return [Grounding.from_dict(answer) for answer in content]
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
