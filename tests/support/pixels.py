"""Finds actors of Moving Shapes in pictures, by color and outline alone."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from r2tuning.synthetic.render import distance_at
from r2tuning.synthetic.scenes import Color, Shape

NEAR = 40.0
"""Largest distance in RGB from a fill at which a decoded pixel still counts as filled."""


def read_frames(path: Path) -> NDArray[np.uint8]:
    """All frames ``[n, height, width, 3]`` of a video."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def find_color(frame: NDArray[np.uint8], color: Color) -> NDArray[np.bool_]:
    """Where a frame has the fill of a color."""
    difference = frame.astype(np.float32) - np.array(color.value, dtype=np.float32)
    return np.asarray(np.linalg.norm(difference, axis=-1) < NEAR)


def find_center(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean column and row of the pixels found."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def recognize_shape(mask: NDArray[np.bool_], radius: float) -> Shape:
    """The shape, upright and of that radius in pixels, that covers the pixels found best at any place near them."""
    rows, columns = np.nonzero(mask)
    middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    y, x = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]].astype(np.float32)
    best = {}
    for shape in Shape:
        overlaps = []
        for dx in np.arange(-0.2, 0.21, 0.1):
            for dy in np.arange(-0.3, 0.31, 0.1):
                across, down = (x - middle[0]) / radius + np.float32(dx), (y - middle[1]) / radius + np.float32(dy)
                drawn = distance_at(shape, across, down) < -0.1  # the rim has another color
                overlaps.append((drawn & mask).sum() / (drawn | mask).sum())
        best[shape] = max(overlaps)
    return max(best, key=lambda shape: best[shape])
