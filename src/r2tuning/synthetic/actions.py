"""Actions: where actors are at every time, and which acts fit the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from r2tuning.synthetic.scenes import FPS, Act, Action, Actor, Scene, Script, Shape, Size, to_frame

Floats = NDArray[np.float64]

LIT_SHARE = 0.68
"""Share of its period for which a blinking actor can be seen."""


@dataclass(frozen=True)
class Pose:
    """State of an actor at several times; every array is ``[n]``.

    Attributes:
        x: Centre, in heights.
        y: Centre, in heights, down.
        radius: Heights.
        angle: Radians clockwise.
        lit: Whether it can be seen; False only in the dark half of a blink.
    """

    x: Floats
    y: Floats
    radius: Floats
    angle: Floats
    lit: NDArray[np.bool_]


def pose_at(act: Act, times: Floats) -> Pose:
    """State of an actor during one act.

    Args:
        act: The act.
        times: ``[n]`` seconds, within the act.

    Example:
        >>> act = Act(Action.MOVE_LEFT, 2.0, 6.0, origin=(0.9, 0.5), target=(0.1, 0.5), radii=(0.1, 0.1))
        >>> pose_at(act, np.array([2.0, 4.0])).x
        array([0.9, 0.5])
    """
    elapsed = times - act.start
    share = elapsed / (act.end - act.start)
    cycles = elapsed / act.period if act.period else np.zeros_like(elapsed)
    x = act.origin[0] + (act.target[0] - act.origin[0]) * share
    y = act.origin[1] + (act.target[1] - act.origin[1]) * share
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


def find_act(actor: Actor, time: float) -> Act:
    """The act that an actor is in at ``time`` seconds, within its scene."""
    return next(act for act in reversed(actor.acts) if act.start <= time)


@dataclass(frozen=True)
class Track:
    """An actor in every frame of its scene.

    Attributes:
        actor: Whose track it is.
        centre: Index in the scene of the actor that it circles, or None.
        pose: Its state, ``[frames of the scene]``.
        actions: ``[frames of the scene]``, the value of the `Action` it does.
        visible: ``[frames of the scene]``, share of it that no other hides, in [0, 1]; actors count as discs.
    """

    actor: Actor
    centre: int | None
    pose: Pose
    actions: NDArray[np.str_]
    visible: Floats


@dataclass(frozen=True)
class SceneTracks:
    """All tracks of a scene.

    Attributes:
        scene: The scene.
        span: Its frames in the video.
        tracks: One per actor, in the scene's order.
    """

    scene: Scene
    span: slice
    tracks: tuple[Track, ...]


def track_scene(scene: Scene) -> SceneTracks:
    """Follows the actors of a scene through its frames."""
    poses = [pose_through(actor.acts) for actor in scene.actors]
    shares = visible_shares(poses)
    tracks = tuple(
        Track(
            actor,
            actor.centre,
            pose,
            np.repeat(
                [act.action.value for act in actor.acts], [to_frame(a.end) - to_frame(a.start) for a in actor.acts]
            ),
            share,
        )
        for actor, pose, share in zip(scene.actors, poses, shares, strict=True)
    )
    return SceneTracks(scene, slice(to_frame(scene.start), to_frame(scene.end)), tracks)


def track_script(script: Script) -> tuple[SceneTracks, ...]:
    """Follows the actors of all scenes."""
    return tuple(track_scene(scene) for scene in script.scenes)


def pose_through(acts: tuple[Act, ...]) -> Pose:
    """State in every frame of acts that follow each other."""
    parts = [pose_at(act, np.arange(to_frame(act.start), to_frame(act.end)) / FPS) for act in acts]
    return Pose(
        x=np.concatenate([part.x for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        radius=np.concatenate([part.radius for part in parts]),
        angle=np.concatenate([part.angle for part in parts]),
        lit=np.concatenate([part.lit for part in parts]),
    )


def visible_shares(poses: list[Pose]) -> list[Floats]:
    """Share of each actor that smaller ones, which are in front of it, leave visible.

    Actors are taken as discs, and two that hide the same part as hiding two.
    """
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
    """Heights from centre to centre, ``[n]``."""
    return np.asarray(np.hypot(one.x - other.x, one.y - other.y))


def _shared_area(one: Pose, other: Pose) -> Floats:
    """Area of the lens that two discs share."""
    a, b, distance = one.radius, other.radius, np.maximum(distance_between(one, other), 1e-9)
    # Distance from each centre to the chord through both crossings; clipping covers discs apart or inside each other.
    to_chord = (distance**2 + a**2 - b**2) / (2 * distance)
    alpha = np.arccos(np.clip(to_chord / a, -1, 1))
    beta = np.arccos(np.clip((distance - to_chord) / b, -1, 1))
    return np.asarray(a**2 * (alpha - np.sin(2 * alpha) / 2) + b**2 * (beta - np.sin(2 * beta) / 2))


SHORTEST_ACT, LONGEST_ACT = 9.0, 16.0
"""Seconds. Shorter acts are seen in too few sampled frames, 2 s apart; longer journeys hardly differ between two."""

MARGIN = 0.02
"""Heights that always stay free between an actor and the edge of the square."""

SHORTEST_PATH = 0.45
"""Heights that an actor travels at least in one act."""

BESIDE_GAP = 0.03
"""Heights between two actors that are next to each other, or of which one circles the other."""

_HEADINGS = {
    Action.MOVE_LEFT: (-1, 0),
    Action.MOVE_RIGHT: (1, 0),
    Action.RISE: (0, -1),
    Action.FALL: (0, 1),
}
_SIZES = tuple(Size)  # in order
_JUMPS = (0.22, 0.34)
_BLINKS = (1.47, 1.54)
"""Seconds of a blink. Of frames 2 s apart, about every third is dark: in an act never all, and hardly ever none."""


def divide_time(chance: Random, start: float, end: float, parts: int, shortest: float) -> list[float]:
    """Times that divide ``[start, end]`` into ``parts`` of at least ``shortest`` seconds, both ends included.

    Example:
        >>> divide_time(Random(1), 2.0, 7.0, parts=1, shortest=5.0)
        [2.0, 7.0]
    """
    spare = round((end - start - parts * shortest) * FPS)
    cuts = sorted(chance.randint(0, spare) for _ in range(parts - 1))
    between = [round(start + (index + 1) * shortest + cut / FPS, 1) for index, cut in enumerate(cuts)]
    return [start, *between, end]


def choose_parts(chance: Random, length: float) -> int:
    """Number of acts for a scene of ``length`` seconds: two or more, or who acts would tell what is done."""
    fewest = max(2, math.ceil(length / LONGEST_ACT))
    return chance.randint(fewest, max(fewest, min(4, int(length / SHORTEST_ACT))))


def fits_shape(action: Action, shape: Shape) -> bool:
    """Whether the action can be seen: that a round shape spins cannot."""
    return action is not Action.SPIN or shape.symmetry > 0


def fits_size(action: Action, size: Size) -> bool:
    """Whether an actor of that size can do this: it grows to the next size, and shrinks to the one before."""
    return not (action is Action.GROW and size is _SIZES[-1]) and not (action is Action.SHRINK and size is _SIZES[0])


def play(
    chance: Random,
    actions: Sequence[Action],
    times: Sequence[float],
    start: tuple[float, float],
    size: Size,
    shape: Shape,
) -> tuple[Act, ...] | None:
    """Acts one after the other, each beginning as the one before ended.

    Args:
        chance: Of paths and speeds.
        actions: What is done; not circling, which needs another actor.
        times: Seconds, one more than there are actions.
        start: Where the first begins.
        size: At first.
        shape: Of the actor.

    Returns:
        None where there is no room for one of them.
    """
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
    chance: Random, times: Sequence[float], centre: tuple[float, float], reach: float, radius: float, rests_first: bool
) -> tuple[Act, ...]:
    """Acts of an actor that circles a point, resting before (or after) where there are two.

    Args:
        chance: Of speed and beginning.
        times: Seconds, of one or two acts.
        centre: The point.
        reach: Radius of the circle.
        radius: Of the actor.
        rests_first: Whether, of two acts, the rest comes first.
    """
    bearing = chance.uniform(0, 2 * math.pi)
    turn = chance.choice((-1, 1))
    period = turn * 2 / chance.uniform(0.22, 0.36)
    circling = len(times) - 2 if rests_first else 0
    act = Act(
        Action.CIRCLE, times[circling], times[circling + 1], centre, centre, (radius, radius), bearing, period, reach
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
    """One act that begins at ``origin``; None where there is no room for it."""
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
    """Heights that are free in that direction; all of them where it does not move along this axis."""
    if heading == 0:
        return 1.0
    return (1 - position if heading > 0 else position) - radius - MARGIN


def _jump_period(length: float) -> float:
    """Seconds of a jump: a whole number of them fits, so that it ends on the ground.

    Of the numbers that give natural jumps, the one by which frames 2 s apart differ most: they are near 0.35 of a jump
    apart, where 0 or a half would show the same height each time.
    """
    counts = range(math.ceil(length / 1.95), int(length / 1.15) + 1)
    return length / min(counts, key=lambda count: abs(2 * count / length % 1 - 0.35))


def _spin_period(chance: Random, shape: Shape) -> float:
    """Seconds of a turn, such that frames 2 s apart never look the same by symmetry, as a film's wheels do."""
    share = chance.uniform(0.3, 0.45) + (shape.symmetry > 1)
    return 2 * shape.symmetry / share
