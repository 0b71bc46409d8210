"""The examples of how to extend r2tuning are run as they are written, and print what the guide says."""

import contextlib
import io
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from r2tuning.output.registry import SUMMARY_WRITERS, WRITERS

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d+\.\d+")
SECTIONS = ("A backbone", "A data set", "A loss", "A head", "A format")


def read_examples() -> dict[str, tuple[str, str]]:
    """The code of each section, and what it prints."""
    found = {}
    for section in re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]:
        (code,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        (printed,) = re.findall(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        found[section.partition("\n")[0]] = code, printed
    return found


def test_there_is_a_short_example_of_each_extension() -> None:
    examples = read_examples()
    assert tuple(examples) == SECTIONS
    assert all(code.count("\n") < 40 for code, _ in examples.values())


def test_the_examples_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "build").mkdir()
    module = ModuleType("guide")  # dataclasses look for theirs
    monkeypatch.setitem(sys.modules, "guide", module)
    try:
        for section, (code, expected) in read_examples().items():
            with contextlib.redirect_stdout(io.StringIO()) as stdout:
                exec(compile(code, f"extend.md: {section}", "exec"), module.__dict__)
            printed = stdout.getvalue()
            assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", expected).split(), section
            # Processors round differently.
            assert list(map(float, NUMBER.findall(printed))) == pytest.approx(
                list(map(float, NUMBER.findall(expected))), abs=0.05
            ), section
        assert SUMMARY_WRITERS["lrc"] is WRITERS["lrc"], "summaries have the formats of answers"
    finally:
        WRITERS.pop("lrc", None)
