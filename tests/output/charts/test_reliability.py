"""Points lie where they say, and every curve can be told apart."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.files import read_texts

from r2tuning.errors import OutputError
from r2tuning.output.charts.experiments import ReliabilityDiagram, plot_reliability
from r2tuning.types import Reliability

POINTS = Reliability(np.array([0.25, 0.75]), np.array([0.5, 1.0]), np.array([0.75, 0.25]))
OTHERS = Reliability(np.array([0.5]), np.array([0.25]), np.array([1.0]))
DIAGRAM = ReliabilityDiagram("Moments: <5 %", "right (IoU ≥ 0.5)", [("raw", POINTS), ("calibrated", OTHERS)])
ORANGE, BLUE = "#d55e00", "#0072b2"


def paths(file: Path, colour: str) -> list[np.ndarray]:
    """Points of the lines of a colour, ``[n, 2]`` each, in points of the page."""
    found = []
    for node in ET.parse(file).iter("{http://www.w3.org/2000/svg}path"):
        style = node.get("style") or ""
        if f"stroke: {colour}" in style and "fill: none" in style:
            found.append(np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", node.get("d") or ""), dtype=float))
    return found


def test_points_lie_where_they_say(tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    plot_reliability([DIAGRAM], file)
    (diagonal, *_) = paths(file, "#555555")
    (x0, y0), (x1, y1) = diagonal
    raw = next(line for line in paths(file, ORANGE) if len(line) == 2 and line[0, 1] != line[1, 1])
    np.testing.assert_allclose((raw - [x0, y0]) / [x1 - x0, y1 - y0], [[0.25, 0.5], [0.75, 1.0]], atol=1e-3)


def test_everything_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    plot_reliability([DIAGRAM], file)
    for text in ("Moments: <5 %", "right (IoU ≥ 0.5)", "raw", "calibrated", "perfectly calibrated", "score", "100%"):
        assert text in read_texts(file)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_pictures_are_1000_pixels_wide_and_have_both_colours(tmp_path: Path, count: int) -> None:
    plot_reliability([DIAGRAM] * count, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        picture = np.asarray(image.convert("RGB"))
    assert picture.shape[1] == 1000
    for colour in (ORANGE, BLUE):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        columns = np.flatnonzero((picture == rgb).all(axis=-1).any(axis=0))
        # In each diagram: no gap between its columns is as wide as that between diagrams.
        assert (np.diff(columns) > 100).sum() >= count - 1


def test_existing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(OutputError, match="--force"):
        plot_reliability([DIAGRAM], tmp_path / "a.png")
    plot_reliability([DIAGRAM], tmp_path / "a.png", force=True)
