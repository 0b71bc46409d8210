"""Draws a script."""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from r2tuning.synthetic.backdrops import paint_place
from r2tuning.synthetic.motion import find_act, pose_at
from r2tuning.synthetic.outlines import EXTENT, distance_at
from r2tuning.synthetic.script import HEIGHT, WIDTH, Script
from r2tuning.synthetic.vocabulary import Colour, Shape

LEFT = (WIDTH - HEIGHT) // 2
"""Pixels to the left of the square in which everything happens."""

_RIM = 0.09  # radii; at least as wide as `_THINNEST_RIM` pixels
_THINNEST_RIM = 1.1
_DARK_RIM, _LIGHT_RIM = 0.5, (168, 168, 176)


def render(script: Script, time: float) -> NDArray[np.uint8]:
    """The picture at a time.

    Args:
        script: The video.
        time: Seconds, in [0, duration).

    Returns:
        uint8 RGB ``[224, 256, 3]``, the same for the same arguments.

    Raises:
        ValueError: If the time lies outside the video.
    """
    if not 0 <= time < script.duration:
        raise ValueError(f"{script.vid} has no picture at {time} s: it lasts {script.duration} s")
    scene = script.scenes[bisect_right([scene.start for scene in script.scenes], time) - 1]
    picture = paint_place(scene.place, scene.texture).copy()
    moment = np.array([time])
    poses = [pose_at(find_act(actor, time), moment) for actor in scene.actors]
    # The larger first: the smaller are in front, so that nobody is hidden altogether.
    for index in sorted(range(len(poses)), key=lambda i: -float(poses[i].radius[0])):
        pose, actor = poses[index], scene.actors[index]
        if pose.lit[0]:
            centre = (float(pose.x[0]) * HEIGHT + LEFT, float(pose.y[0]) * HEIGHT)
            _draw(picture, actor.shape, actor.colour, centre, float(pose.radius[0]) * HEIGHT, float(pose.angle[0]))
    return picture


def _draw(
    picture: NDArray[np.uint8], shape: Shape, colour: Colour, centre: tuple[float, float], radius: float, angle: float
) -> None:
    """Draws one actor into the picture; centre and radius are in pixels."""
    reach = radius * EXTENT
    left, right = max(0, math.floor(centre[0] - reach)), min(WIDTH, math.ceil(centre[0] + reach))
    top, bottom = max(0, math.floor(centre[1] - reach)), min(HEIGHT, math.ceil(centre[1] + reach))
    x = ((np.arange(left, right, dtype=np.float32) + np.float32(0.5 - centre[0])) / np.float32(radius))[None, :]
    y = ((np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - centre[1])) / np.float32(radius))[:, None]
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    distance = distance_at(shape, x * cosine + y * sine, y * cosine - x * sine)
    cover = np.clip(0.5 - distance * np.float32(radius), 0, 1)[..., None]
    rim_width = max(_RIM, _THINNEST_RIM / radius)
    rim = np.clip(0.5 + (distance + np.float32(rim_width)) * np.float32(radius), 0, 1)[..., None]
    fill = np.array(colour.value, dtype=np.float32)
    edge = np.array(_LIGHT_RIM, dtype=np.float32) if colour is Colour.BLACK else fill * np.float32(_DARK_RIM)
    # Light from above: the lower part is a little darker.
    lit = np.clip(fill * (1 - np.float32(0.09) * np.clip(y + 0.4, 0, 1))[..., None], 0, 255)
    part = picture[top:bottom, left:right]
    inked = lit + (edge - lit) * rim
    part[:] = (part + (inked - part) * cover + np.float32(0.5)).astype(np.uint8)
