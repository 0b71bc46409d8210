"""Draws the frames of a script."""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import cache

import numpy as np
from numpy.typing import NDArray

from r2tuning.synthetic.actions import pose_at
from r2tuning.synthetic.backdrops import paint_place
from r2tuning.synthetic.scenes import HEIGHT, WIDTH, Color, Script, Shape

Plane = NDArray[np.float32]

EXTENT = 1.25  # half the side of a distance table, in radii
_CELLS = 256


@cache
def distance_table(shape: Shape) -> Plane:
    """Signed distances ``[256, 256]`` to the outline of a shape of radius 1, negative inside, over `EXTENT`."""
    axis = np.linspace(-EXTENT, EXTENT, _CELLS)
    x, y = np.meshgrid(axis, axis)
    if shape is Shape.CIRCLE:
        distance = np.hypot(x, y) - 0.92
    elif shape is Shape.RING:
        distance = np.abs(np.hypot(x, y) - 0.74) - 0.22
    elif shape is Shape.MOON:
        distance = np.maximum(np.hypot(x, y) - 0.98, 0.72 - np.hypot(x - 0.5, y + 0.13))
    elif shape is Shape.FLOWER:
        angles = np.arange(shape.symmetry) * 2 * np.pi / shape.symmetry
        petals = [np.hypot(x - 0.6 * np.sin(a), y + 0.6 * np.cos(a)) - 0.36 for a in angles]
        distance = np.minimum(np.min(petals, axis=0), np.hypot(x, y) - 0.5)
    else:
        distance = _to_polygon(x, y, _corners(shape))
    return np.asarray(distance, dtype=np.float32)


def distance_at(shape: Shape, x: Plane, y: Plane) -> Plane:
    """Signed distances of points from a shape of radius 1 around the origin, exact to about 0.01 on the outline.

    Points outside the table count as on its edge. All lengths are in radii, x to the right and y down.

    Example:
        >>> point = np.zeros(1, dtype=np.float32)
        >>> bool(distance_at(Shape.RING, point, point)[0] > 0), bool(distance_at(Shape.STAR, point, point)[0] < 0)
        (True, True)
    """
    table = distance_table(shape)
    scale = np.float32((_CELLS - 1) / (2 * EXTENT))
    column = np.clip((x + np.float32(EXTENT)) * scale, 0, _CELLS - 1.001)
    row = np.clip((y + np.float32(EXTENT)) * scale, 0, _CELLS - 1.001)
    left, top = column.astype(np.intp), row.astype(np.intp)
    right_share, down_share = column - left, row - top
    flat, index = table.ravel(), top * _CELLS + left
    upper = flat[index] + right_share * (flat[index + 1] - flat[index])
    lower = flat[index + _CELLS] + right_share * (flat[index + _CELLS + 1] - flat[index + _CELLS])
    return np.asarray(upper + down_share * (lower - upper))


def _corners(shape: Shape) -> NDArray[np.float64]:
    """Corners ``[n, 2]`` of a polygon, x right and y down, in order around it."""
    if shape is Shape.SQUARE:
        return 0.8 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    if shape is Shape.TRIANGLE:
        return _star_corners(points=3, inner=0.5)
    if shape is Shape.STAR:
        return _star_corners(points=5, inner=0.44)
    if shape is Shape.CROSS:
        arm, width = 0.95, 0.32
        quarter = np.array([(width, -arm), (width, -width), (arm, -width)])
        turns = np.arange(4) * np.pi / 2
        return np.concatenate([quarter @ [[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] for a in turns])
    if shape is Shape.HEART:
        t = np.arange(48) * 2 * np.pi / 48
        across, up = 16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([across / 17, -(up + 2.5) / 15.5], axis=1)
    if shape is Shape.BOLT:
        half = np.array([(0.36, -1.0), (-0.7, 0.2), (-0.08, 0.2)])
        return np.concatenate([half, -half])
    raise ValueError(f"{shape} is not a polygon")


def _star_corners(points: int, inner: float) -> NDArray[np.float64]:
    """Corners of a star with its first point up."""
    angles = np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return np.stack([radius * np.sin(angles), -radius * np.cos(angles)], axis=1)


def _to_polygon(x: NDArray[np.float64], y: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance to the nearest edge, negative where a ray to the right crosses an odd number of edges."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - along * dx, y - y0 - along * dy))
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * dx / dy)
    return np.where(inside, -nearest, nearest)


LEFT = (WIDTH - HEIGHT) // 2  # pixels to the left of the square that holds all actors
_RIM = 0.09  # radii; at least as wide as `_THINNEST_RIM` pixels
_THINNEST_RIM = 1.1
_DARK_RIM, _LIGHT_RIM = 0.5, (168, 168, 176)


def render(script: Script, time: float) -> NDArray[np.uint8]:
    """The picture at a time in [0, duration) seconds.

    Returns:
        uint8 RGB ``[224, 256, 3]``.

    Raises:
        ValueError: If the time lies outside the video.
    """
    if not 0 <= time < script.duration:
        raise ValueError(f"{script.vid} has no frame at {time} s; it lasts {script.duration} s")
    scene = script.scenes[bisect_right([scene.start for scene in script.scenes], time) - 1]
    picture = paint_place(scene.place, scene.texture).copy()
    acts = [next(act for act in reversed(actor.acts) if act.start <= time) for actor in scene.actors]
    poses = [pose_at(act, np.array([time])) for act in acts]
    # Large actors first, so that no actor is hidden completely.
    for index in sorted(range(len(poses)), key=lambda i: -float(poses[i].radius[0])):
        pose, actor = poses[index], scene.actors[index]
        if pose.lit[0]:
            center = (float(pose.x[0]) * HEIGHT + LEFT, float(pose.y[0]) * HEIGHT)
            _draw(picture, actor.shape, actor.color, center, float(pose.radius[0]) * HEIGHT, float(pose.angle[0]))
    return picture


def _draw(
    picture: NDArray[np.uint8], shape: Shape, color: Color, center: tuple[float, float], radius: float, angle: float
) -> None:
    """Draws one actor into the picture; center and radius are in pixels."""
    reach = radius * EXTENT
    left, right = max(0, math.floor(center[0] - reach)), min(WIDTH, math.ceil(center[0] + reach))
    top, bottom = max(0, math.floor(center[1] - reach)), min(HEIGHT, math.ceil(center[1] + reach))
    x = ((np.arange(left, right, dtype=np.float32) + np.float32(0.5 - center[0])) / np.float32(radius))[None, :]
    y = ((np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - center[1])) / np.float32(radius))[:, None]
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    distance = distance_at(shape, x * cosine + y * sine, y * cosine - x * sine)
    cover = np.clip(0.5 - distance * np.float32(radius), 0, 1)[..., None]
    rim_width = max(_RIM, _THINNEST_RIM / radius)
    rim = np.clip(0.5 + (distance + np.float32(rim_width)) * np.float32(radius), 0, 1)[..., None]
    fill = np.array(color.value, dtype=np.float32)
    edge = np.array(_LIGHT_RIM, dtype=np.float32) if color is Color.BLACK else fill * np.float32(_DARK_RIM)
    # Light from above: the lower part is a little darker.
    lit = np.clip(fill * (1 - np.float32(0.09) * np.clip(y + 0.4, 0, 1))[..., None], 0, 255)
    part = picture[top:bottom, left:right]
    inked = lit + (edge - lit) * rim
    part[:] = (part + (inked - part) * cover + np.float32(0.5)).astype(np.uint8)
