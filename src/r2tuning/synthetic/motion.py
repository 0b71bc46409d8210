"""Where actors are: the one definition that both the picture and the truth of a query are taken from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2tuning.synthetic.script import FPS, Act, Actor, Scene, Script, to_frame
from r2tuning.synthetic.vocabulary import Action

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
