"""Names of clips are safe everywhere, whatever the query."""

import unicodedata
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from r2tuning.output.media.cut import name_clip

FORBIDDEN = set('<>:"/\\|?*')  # by Windows; the others forbid fewer


@given(
    st.text(st.characters(exclude_categories=[]), max_size=400),
    st.integers(1, 5000),
    st.floats(-10, 1e6),
    st.floats(0, 1e5),
)
def test_names_are_safe(query: str, number: int, start: float, length: float) -> None:
    name = name_clip(number, 5000, query, start, start + length)
    assert len(name.encode()) < 255  # which a lone half of a character would not survive
    assert not FORBIDDEN & set(name)
    assert all(unicodedata.category(c)[0] in "LMN" or c in "-." for c in name)
    assert name.startswith(f"{number:04d}-")  # so that no name is CON or NUL, and no two are equal
    assert name.endswith("s.mp4")
    assert Path(name).name == name


def test_names_can_be_read() -> None:
    assert name_clip(1, 3, "The dog catches", 12.3, 18) == "01-the-dog-catches-0m12.3s-0m18.0s.mp4"
    assert name_clip(2, 3, "Ein Hund läuft über die Straße.", 0, 60) == (
        "02-ein-hund-läuft-über-die-straße-0m00.0s-1m00.0s.mp4"
    )
    assert name_clip(3, 3, "一只狗在跑步", 59.96, 3600) == "03-一只狗在跑步-1m00.0s-1h00m00.0s.mp4"
    assert name_clip(4, 3, "कुत्ता दौड़ता है", 1, 2).startswith("04-कुत्ता-दौड़ता-है-")
    assert name_clip(1, 1, "../../etc/passwd\0\n", 1, 2) == "01-etc-passwd-0m01.0s-0m02.0s.mp4"
    assert name_clip(1, 1, "🐕💥\ud800", 1, 2) == "01-moment-0m01.0s-0m02.0s.mp4"
