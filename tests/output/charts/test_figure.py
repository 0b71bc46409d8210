from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from r2tuning.output.charts import find_fonts

# Private use: no font of the machine that runs the tests shows it.
CHARACTER = "\U0010f2d7"


def build_font(path: Path, family: str, character: str) -> None:
    """Writes a font whose only character is a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(point)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square"})
    builder.setupGlyf({".notdef": square, "square": square})
    builder.setupHorizontalMetrics({".notdef": (800, 0), "square": (800, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, sTypoDescender=-200)
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def square_font(tmp_path: Path) -> Iterator[str]:
    before = list(fontManager.ttflist)
    build_font(tmp_path / "square.ttf", "Test Square", CHARACTER)
    fontManager.addfont(tmp_path / "square.ttf")
    yield "Test Square"
    fontManager.ttflist[:] = before


def test_latin_needs_one_font() -> None:
    assert find_fonts("naïve café Жук ωμέγα") == ["DejaVu Sans"]


def test_an_installed_font_is_found_for_what_is_missing(square_font: str) -> None:
    assert find_fonts(f"a {CHARACTER}") == ["DejaVu Sans", square_font]


def test_fonts_that_fake_every_character_are_not_taken() -> None:
    assert find_fonts(CHARACTER) == ["DejaVu Sans"]


def test_fonts_gone_since_they_were_listed_are_passed_over(square_font: str, tmp_path: Path) -> None:
    (tmp_path / "square.ttf").unlink()
    assert find_fonts(CHARACTER) == ["DejaVu Sans"]
