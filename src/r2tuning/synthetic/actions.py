"""Actions: where actors are at every time, and which acts fit the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from random import Random

import numpy as np
from numpy.typing import NDArray

from r2tuning.synthetic.scenes import FPS, Act, Action, Actor, Scene, Script, Shape, Size, to_frame

Floats = NDArray[np.float64]

LIT_SHARE = 0.68  # share of its period for which a blinking actor can be seen


@dataclass(frozen=True)
class Pose:
    """State of an actor at n times: center and radius in heights (y down), radians clockwise, and whether it is lit."""

    x: Floats
    y: Floats
    radius: Floats
    angle: Floats
    lit: NDArray[np.bool_]


def pose_at(act: Act, times: Floats) -> Pose:
    """State of an actor during one act, at ``times [n]`` in seconds.

    Example:
        >>> act = Act(Action.MOVE_LEFT, 2.0, 6.0, origin=(0.9, 0.5), target=(0.1, 0.5), radii=(0.1, 0.1))
        >>> pose_at(act, np.array([2.0, 4.0])).x
        array([0.9, 0.5])
    """
    elapsed = times - act.start
    share = elapsed / (act.end - act.start)
    cycles = elapsed / act.period if act.period else np.zeros_like(elapsed)
    x, y = (first + (last - first) * share for first, last in zip(act.origin, act.target, strict=True))
    angle = np.full_like(elapsed, act.angle)
    lit = np.ones(len(elapsed), dtype=bool)
    if act.action is Action.SPIN:
        angle = angle + 2 * np.pi * cycles
    elif act.action is Action.BOUNCE:
        y = y - act.reach * np.abs(np.sin(np.pi * cycles))
    elif act.action is Action.BLINK:
        lit = cycles % 1 < LIT_SHARE
    elif act.action is Action.CIRCLE:
        bearing = act.angle + 2 * np.pi * cycles
        x, y = x + act.reach * np.cos(bearing), y + act.reach * np.sin(bearing)
        angle = np.zeros_like(elapsed)
    return Pose(x, y, act.radii[0] + (act.radii[1] - act.radii[0]) * share, angle, lit)


@dataclass(frozen=True)
class Track:
    """An actor in every frame of its scene.

    Attributes:
        actor: The actor.
        pose: Its state, ``[frames of the scene]``.
        actions: ``[frames of the scene]``, the value of its `Action`.
        visible: ``[frames of the scene]``, the share that no other actor hides, in [0, 1]; actors count as discs.
    """

    actor: Actor
    pose: Pose
    actions: NDArray[np.str_]
    visible: Floats


@dataclass(frozen=True)
class SceneTracks:
    """A scene, its frames in the video, and the tracks of its actors in order."""

    scene: Scene
    span: slice
    tracks: tuple[Track, ...]


def track_scene(scene: Scene) -> SceneTracks:
    """Follows the actors of a scene through its frames."""
    poses = [pose_through(actor.acts) for actor in scene.actors]
    tracks = []
    for actor, pose, visible in zip(scene.actors, poses, visible_shares(poses), strict=True):
        lengths = [to_frame(act.end) - to_frame(act.start) for act in actor.acts]
        tracks.append(Track(actor, pose, np.repeat([act.action.value for act in actor.acts], lengths), visible))
    return SceneTracks(scene, slice(to_frame(scene.start), to_frame(scene.end)), tuple(tracks))


def track_script(script: Script) -> tuple[SceneTracks, ...]:
    """Follows the actors of all scenes."""
    return tuple(track_scene(scene) for scene in script.scenes)


def pose_through(acts: tuple[Act, ...]) -> Pose:
    """State in every frame of acts that follow each other."""
    parts = [pose_at(act, np.arange(to_frame(act.start), to_frame(act.end)) / FPS) for act in acts]
    return Pose(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Pose)))


def visible_shares(poses: list[Pose]) -> list[Floats]:
    """Share of each actor that smaller ones, which are in front, leave visible; a part hidden twice counts twice."""
    shares = []
    for index, pose in enumerate(poses):
        hidden = np.zeros_like(pose.x)
        for other_index, other in enumerate(poses):
            if other_index != index:
                # Of two equal ones, the later is in front.
                in_front = (other.radius < pose.radius) | ((other.radius == pose.radius) & (other_index > index))
                hidden += np.where(in_front & other.lit, _shared_area(pose, other), 0)
        shares.append(np.clip(1 - hidden / (np.pi * pose.radius**2), 0, 1))
    return shares


def distance_between(one: Pose, other: Pose) -> Floats:
    """Heights from center to center, ``[n]``."""
    return np.asarray(np.hypot(one.x - other.x, one.y - other.y))


def _shared_area(one: Pose, other: Pose) -> Floats:
    """Area of the lens that two discs share."""
    a, b, distance = one.radius, other.radius, np.maximum(distance_between(one, other), 1e-9)
    # Distance from each center to the chord through both crossings; clipping covers discs apart or inside each other.
    to_chord = (distance**2 + a**2 - b**2) / (2 * distance)
    alpha = np.arccos(np.clip(to_chord / a, -1, 1))
    beta = np.arccos(np.clip((distance - to_chord) / b, -1, 1))
    return np.asarray(a**2 * (alpha - np.sin(2 * alpha) / 2) + b**2 * (beta - np.sin(2 * beta) / 2))


SHORTEST_ACT, LONGEST_ACT = 9.0, 16.0
"""Seconds. Models see a frame every 2 s: of shorter acts too few, and longer journeys hardly differ between two."""

MARGIN = 0.02  # least distance between an actor and the edge of the square, in heights
SHORTEST_PATH = 0.45  # shortest journey in one act, in heights
BESIDE_GAP = 0.03  # heights between two actors that are next to each other, or one of which circles the other
_HEADINGS = {Action.MOVE_LEFT: (-1, 0), Action.MOVE_RIGHT: (1, 0), Action.RISE: (0, -1), Action.FALL: (0, 1)}
_SIZES = tuple(Size)  # in order
_JUMPS = (0.22, 0.34)
_BLINKS = (1.47, 1.54)
"""Seconds of a blink. Of frames 2 s apart, about every third is dark: in an act never all, and hardly ever none."""


def divide_time(chance: Random, start: float, end: float, parts: int, shortest: float) -> list[float]:
    """Times that divide ``[start, end]`` into ``parts`` of at least ``shortest`` seconds, both ends included."""
    spare = round((end - start - parts * shortest) * FPS)
    cuts = sorted(chance.randint(0, spare) for _ in range(parts - 1))
    between = [round(start + (index + 1) * shortest + cut / FPS, 1) for index, cut in enumerate(cuts)]
    return [start, *between, end]


def choose_parts(chance: Random, length: float) -> int:
    """Number of acts in a scene of ``length`` seconds: at least two, or the actor alone would identify the action."""
    fewest = max(2, math.ceil(length / LONGEST_ACT))
    return chance.randint(fewest, max(fewest, min(4, int(length / SHORTEST_ACT))))


def fits_shape(action: Action, shape: Shape) -> bool:
    """Whether the action is visible: a round shape that spins is not."""
    return action is not Action.SPIN or shape.symmetry > 0


def fits_size(action: Action, size: Size) -> bool:
    """Whether an actor of that size can do this: it grows or shrinks by one size."""
    return not (action is Action.GROW and size is _SIZES[-1]) and not (action is Action.SHRINK and size is _SIZES[0])


def play(
    chance: Random,
    actions: Sequence[Action],
    times: Sequence[float],
    start: tuple[float, float],
    size: Size,
    shape: Shape,
) -> tuple[Act, ...] | None:
    """Acts that follow each other, between ``times`` (one more than actions); None where there is no room for one."""
    acts: list[Act] = []
    radius, angle, origin = size.value, 0.0, start
    for index, action in enumerate(actions):
        act = _choose_act(chance, action, (times[index], times[index + 1]), origin, radius, angle, shape)
        if act is None:
            return None
        acts.append(act)
        end = pose_at(act, np.array([act.end]))
        origin, radius, angle = act.target, act.radii[1], float(end.angle[0])
    return tuple(acts)


def play_circling(
    chance: Random, times: Sequence[float], center: tuple[float, float], reach: float, radius: float, rests_first: bool
) -> tuple[Act, ...]:
    """Acts of an actor that circles a point; of two acts (three times), one is a rest."""
    bearing = chance.uniform(0, 2 * math.pi)
    period = chance.choice((-1, 1)) * 2 / chance.uniform(0.22, 0.36)
    circling = len(times) - 2 if rests_first else 0
    act = Act(
        Action.CIRCLE, times[circling], times[circling + 1], center, center, (radius, radius), bearing, period, reach
    )
    if len(times) == 2:
        return (act,)
    edge = pose_at(act, np.array([act.start if rests_first else act.end]))
    spot = (float(edge.x[0]), float(edge.y[0]))
    rest = Act(Action.REST, times[1 - circling], times[2 - circling], spot, spot, (radius, radius))
    return (rest, act) if rests_first else (act, rest)


def _choose_act(
    chance: Random,
    action: Action,
    times: tuple[float, float],
    origin: tuple[float, float],
    radius: float,
    angle: float,
    shape: Shape,
) -> Act | None:
    """One act that starts at ``origin``; None where there is no room for it."""
    start, end = times
    target, radii, period, reach = origin, (radius, radius), 0.0, 0.0
    if action in _HEADINGS:
        right, down = _HEADINGS[action]
        room = min(_room(origin[0], right, radius), _room(origin[1], down, radius))
        if room < SHORTEST_PATH or end - start > LONGEST_ACT:
            return None
        path = chance.uniform(SHORTEST_PATH, room)
        target = (origin[0] + right * path, origin[1] + down * path)
    elif action in (Action.GROW, Action.SHRINK):
        size = Size(radius)
        if not fits_size(action, size) or end - start > LONGEST_ACT:
            return None
        radii = (radius, _SIZES[_SIZES.index(size) + (1 if action is Action.GROW else -1)].value)
    elif action is Action.SPIN:
        period = chance.choice((-1, 1)) * _spin_period(chance, shape)
    elif action is Action.BOUNCE:
        reach = chance.uniform(*_JUMPS)
        if origin[1] - reach - radius < MARGIN:
            return None
        period = _jump_period(end - start)
    elif action is Action.BLINK:
        period = chance.uniform(*_BLINKS)
    widest = max(radii) + MARGIN
    if not all(widest <= value <= 1 - widest for value in (*origin, *target)):
        return None
    return Act(action, start, end, origin, target, radii, angle, period, reach)


def _room(position: float, heading: int, radius: float) -> float:
    """Free heights in that direction; 1 where the actor does not move along this axis."""
    if heading == 0:
        return 1.0
    return (1 - position if heading > 0 else position) - radius - MARGIN


def _jump_period(length: float) -> float:
    """Seconds of a jump, such that a whole number of natural jumps fits.

    Frames 2 s apart should differ most: near 0.35 of a jump, where 0 or a half shows the same height each time.
    """
    counts = range(math.ceil(length / 1.95), int(length / 1.15) + 1)
    return length / min(counts, key=lambda count: abs(2 * count / length % 1 - 0.35))


def _spin_period(chance: Random, shape: Shape) -> float:
    """Seconds of a turn, such that frames 2 s apart never look the same by symmetry, as wheels in a film do."""
    share = chance.uniform(0.3, 0.45) + (shape.symmetry > 1)
    return 2 * shape.symmetry / share
