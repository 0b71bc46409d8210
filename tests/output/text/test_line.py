from hypothesis import given
from hypothesis import strategies as st

from r2tuning.output.text.labels import show_on_one_line


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
