import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r2tuning.errors import show_on_one_line
from r2tuning.output.text import format_clock


def read_clock(text: str) -> float:
    """Seconds that a clock text stands for, after checking its form."""
    assert re.fullmatch(r"(\d|[1-5]\d|[1-9]\d*:[0-5]\d):[0-5]\d(\.\d+)?", text), text
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


@given(st.floats(0, 1e7), st.integers(0, 3))
@example(59.95, 1)
@example(59.9999, 3)
@example(3599.96, 1)
@example(0.0, 0)
def test_clock_reads_back_to_half_a_last_digit(seconds: float, decimals: int) -> None:
    # 1e-6: the product with 10**decimals is rounded to a float as well
    assert abs(read_clock(format_clock(seconds, decimals)) - seconds) <= 0.5 * 10**-decimals + 1e-6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.0"),
        (9.04, "0:09.0"),
        (59.96, "1:00.0"),
        (600, "10:00.0"),
        (3599.96, "1:00:00.0"),
        (90061, "25:01:01.0"),
    ],
)
def test_clock_texts(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text


def test_float32_keeps_tenths_in_long_videos() -> None:
    # 40000.3 as float32 is 40000.30078; its product with 10 in float32 would be 400003.0 too, 400000.3·10 would not
    assert format_clock(np.float32(400000.3)) == "111:06:40.3"


@pytest.mark.parametrize("seconds", [-0.01, -5, float("nan"), float("inf")])
def test_times_that_no_clock_shows_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"not {seconds} s"):
        format_clock(seconds)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=30))
def test_any_text_becomes_one_line_that_utf8_can_hold(text: str) -> None:
    line = show_on_one_line(text)
    line.encode("utf-8")
    assert len(line.splitlines()) <= 1
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
    assert show_on_one_line(line) == line


def test_scripts_and_joiners_are_kept() -> None:
    # the Persian word needs its zero-width non-joiner, the family its joiners
    for text in ("切蔬菜", "می\N{ZERO WIDTH NON-JOINER}روم", "👩\N{ZERO WIDTH JOINER}👧", "naïve café"):
        assert show_on_one_line(text) == text


def test_names_that_are_not_utf8_are_shown() -> None:
    assert show_on_one_line(b"caf\xe9.mp4".decode("utf-8", "surrogateescape")) == "caf\N{REPLACEMENT CHARACTER}.mp4"
