"""Paints the places: textured backgrounds, with different details in every scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from r2tuning.synthetic.scenes import HEIGHT, WIDTH, Place

Plane = NDArray[np.float32]
"""``[HEIGHT, WIDTH]``"""
Picture = NDArray[np.float32]
"""``[HEIGHT, WIDTH, 3]``, sRGB in [0, 255]"""

_Y, _X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) / HEIGHT


@lru_cache(maxsize=8)
def paint_place(place: Place, texture: int) -> NDArray[np.uint8]:
    """The background of a scene, uint8 ``[HEIGHT, WIDTH, 3]``; read-only, as it is cached."""
    picture = _PAINTERS[place](np.random.default_rng(texture))
    done: NDArray[np.uint8] = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    done.flags.writeable = False
    return done


def _noise(rng: Generator, columns: int, rows: int, octaves: int = 1) -> Plane:
    """Smooth noise in [0, 1] on a grid of cells; each octave adds detail of half the size and strength."""
    total, weight = np.zeros((HEIGHT, WIDTH), dtype=np.float32), 0.0
    for octave in range(octaves):
        nx, ny = columns * 2**octave, rows * 2**octave
        grid = rng.random((ny + 1, nx + 1)).astype(np.float32)
        u, v = np.linspace(0, nx, WIDTH, endpoint=False), np.linspace(0, ny, HEIGHT, endpoint=False)
        i, j = u.astype(int), v.astype(int)
        a, b = _ease(u - i)[None, :], _ease(v - j)[:, None]
        top = grid[j][:, i] * (1 - a) + grid[j][:, i + 1] * a
        bottom = grid[j + 1][:, i] * (1 - a) + grid[j + 1][:, i + 1] * a
        total += (top * (1 - b) + bottom * b).astype(np.float32) / 2**octave
        weight += 1 / 2**octave
    return np.asarray(total / np.float32(weight))


def _ease(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return share * share * (3 - 2 * share)


def _blend(share: Plane, *colors: Sequence[float]) -> Picture:
    """A gradient through colors as ``share`` goes from 0 to 1."""
    stops = np.linspace(0, 1, len(colors))
    table = np.array(colors, dtype=np.float32)
    return np.stack([np.interp(share, stops, table[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def _over(below: Picture, mask: Plane, color: Sequence[float] | Picture) -> Picture:
    """``color`` over a picture, where ``mask`` is 1."""
    top = np.asarray(color, dtype=np.float32)
    return np.asarray(below + (top - below) * mask[..., None])


def _soft(distance: Plane) -> Plane:
    """Coverage of pixels by negative distances, in heights."""
    return np.asarray(np.clip(0.5 - distance * HEIGHT, 0, 1), dtype=np.float32)


def _dots(rng: Generator, count: int, radii: tuple[float, float], below: float = 1.0) -> Plane:
    """Coverage by small discs down to the height ``below``."""
    cover = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    for x, y, r in zip(rng.random(count) * WIDTH / HEIGHT, rng.random(count) * below, rng.random(count), strict=True):
        distance = np.hypot(_X - np.float32(x), _Y - np.float32(y)) - np.float32(radii[0] + r * (radii[1] - radii[0]))
        np.maximum(cover, _soft(distance), out=cover)
    return cover


def _night(rng: Generator) -> Picture:
    sky = _blend(np.clip(_Y + 0.35 * (_noise(rng, 3, 3, 3) - 0.5), 0, 1), (10, 12, 40), (26, 32, 84), (48, 50, 116))
    return _over(sky, _dots(rng, 70, (0.001, 0.006)), (196, 202, 240))


def _grass(rng: Generator) -> Picture:
    blades = _noise(rng, 110, 16) * 0.6 + _noise(rng, 5, 5, 2) * 0.4
    return _blend(blades * 0.8 + _Y * 0.2, (58, 122, 38), (92, 164, 54), (140, 200, 84))


def _sea(rng: Generator) -> Picture:
    bend = _noise(rng, 4, 5, 2)
    rows = np.sin((_Y**0.75 * 20 + bend * 2.2) * 2 * np.pi).astype(np.float32)
    water = _blend(_Y, (64, 168, 196), (24, 128, 172), (12, 92, 142))
    return _over(water + rows[..., None] * 9, np.clip(rows * 8 - 7, 0, 1) * _noise(rng, 9, 14) ** 2, (214, 240, 246))


def _snow(rng: Generator) -> Picture:
    picture = _blend(_Y * 2.5, (176, 190, 212), (214, 220, 232))
    for index, level in enumerate((0.2, 0.4, 0.66)):
        ridge = level + 0.2 * (_noise(rng, 2 + index, 1)[0] - 0.5)
        depth = _Y - ridge[None, :]
        shade = np.clip(depth * 2.2 + 0.25 * (_noise(rng, 8, 8, 2) - 0.5), 0, 1)
        picture = _over(picture, _soft(-depth), _blend(shade, (250, 252, 255), (228, 236, 247), (198, 212, 234)))
    return _over(picture, _dots(rng, 60, (0.002, 0.005)), (255, 255, 255))


def _brick(rng: Generator) -> Picture:
    rows, width, joint = 9, 0.26, 0.009
    row = np.floor(_Y * rows)
    across = (_X + (row % 2) * width / 2) / width
    tone = rng.random((rows + 1, 8)).astype(np.float32)[row.astype(int), np.floor(across).astype(int) % 8]
    to_edge = np.minimum(
        np.minimum(_Y * rows % 1, 1 - _Y * rows % 1) / rows, np.minimum(across % 1, 1 - across % 1) * width
    )
    bricks = _blend(tone * 0.7 + _noise(rng, 40, 40, 2) * 0.3, (128, 58, 46), (158, 78, 60), (182, 102, 80))
    return _over(bricks, _soft(to_edge - np.float32(joint)), (196, 186, 176))


def _desert(rng: Generator) -> Picture:
    picture = _blend(_Y * 2, (150, 200, 226), (226, 232, 218))
    for index, level in enumerate((0.34, 0.52, 0.74)):
        ridge = level + 0.16 * (_noise(rng, 2 + index, 1)[0] - 0.5)
        depth = _Y - ridge[None, :]
        ripples = np.sin((depth * 26 + _noise(rng, 5, 3) * 1.6) * 2 * np.pi).astype(np.float32)
        sand = _blend(np.clip(0.25 * index + depth, 0, 1), (238, 206, 146), (216, 172, 106), (190, 142, 82))
        picture = _over(picture, _soft(-depth), sand + ripples[..., None] * 4)
    return picture


def _clouds(rng: Generator) -> Picture:
    sky = _blend(_Y, (92, 160, 224), (150, 200, 240))
    return _over(sky, np.clip((_noise(rng, 4, 5, 4) - 0.46) * 5, 0, 1), (240, 244, 250))


def _wood(rng: Generator) -> Picture:
    boards = 6
    board = np.floor(_Y * boards).astype(int)
    shift = rng.random(boards + 1).astype(np.float32)[board]
    rings = np.sin((_Y * 46 + _noise(rng, 4, 24, 2) * 5 + shift * 9) * 2 * np.pi).astype(np.float32)
    planks = _blend(
        np.clip(0.5 + rings * 0.16 + (shift - 0.5) * 0.7, 0, 1), (110, 74, 44), (146, 102, 64), (178, 132, 88)
    )
    to_gap = np.minimum(_Y * boards % 1, 1 - _Y * boards % 1) / boards
    return _over(planks, _soft(to_gap - np.float32(0.005)), (66, 42, 26))


def _city(rng: Generator) -> Picture:
    picture = _blend(_Y * 1.2, (88, 64, 128), (226, 122, 120), (252, 190, 120))
    for level, color in ((0.42, (112, 72, 112)), (0.56, (66, 46, 84))):
        x = 0.0
        while x < WIDTH / HEIGHT:
            width = 0.09 + 0.1 * rng.random()
            top = level + 0.3 * (rng.random() - 0.4)
            house = np.maximum(np.abs(_X - np.float32(x + width / 2)) - np.float32(width / 2), np.float32(top) - _Y)
            picture = _over(picture, _soft(house), color)
            pane = (((_X - np.float32(x)) % 0.03) < 0.014) & (((_Y - np.float32(top)) % 0.045) < 0.02)
            lit = rng.random((64, 64)) < 0.35
            cell = lit[(_Y / 0.045).astype(int) % 64, (_X / 0.03).astype(int) % 64]
            inner = _soft(house + np.float32(0.014)) * (pane & cell)
            picture = _over(picture, inner.astype(np.float32), (250, 214, 130))
            x += width
    return picture


def _forest(rng: Generator) -> Picture:
    picture = _blend(_Y, (186, 214, 196), (136, 178, 150))
    for level, color in ((0.1, (98, 142, 112)), (0.3, (60, 106, 76)), (0.52, (30, 70, 48))):
        for x in np.arange(-0.05, WIDTH / HEIGHT + 0.1, 0.12):
            middle = np.float32(x + 0.08 * (rng.random() - 0.5))
            depth = _Y - np.float32(level + 0.12 * (rng.random() - 0.5))
            # Each tier of branches is wider towards its lower end.
            half = np.where(depth > 0, depth * 0.22 + (depth % 0.11) * 0.35, -1)
            picture = _over(picture, _soft(np.abs(_X - middle) - half), color)
    return picture


_PAINTERS: dict[Place, Callable[[Generator], Picture]] = {
    Place.NIGHT: _night,
    Place.GRASS: _grass,
    Place.SEA: _sea,
    Place.SNOW: _snow,
    Place.BRICK: _brick,
    Place.DESERT: _desert,
    Place.CLOUDS: _clouds,
    Place.WOOD: _wood,
    Place.CITY: _city,
    Place.FOREST: _forest,
}
