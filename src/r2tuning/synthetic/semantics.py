"""What a query says, in which frames it is true, and how clearly they show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
from numpy.typing import NDArray

from r2tuning.synthetic.actions import Floats, SceneTracks, Track, distance_between
from r2tuning.synthetic.scenes import FPS, Action, Color, Corner, Place, Shape, Size

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Look:
    """What an actor looks like; None leaves a property open."""

    color: Color | None = None
    shape: Shape | None = None
    size: Size | None = None


@dataclass(frozen=True)
class Clause:
    """One actor, what it does, its corner, the actor it circles, the actor next to it; None leaves a part open."""

    subject: Look
    action: Action | None = None
    corner: Corner | None = None
    center: Look | None = None
    neighbor: Look | None = None


@dataclass(frozen=True)
class Meaning:
    """All that a query says: the place, and clauses about different actors that hold at the same time."""

    place: Place | None = None
    clauses: tuple[Clause, ...] = ()


@dataclass(frozen=True)
class Truth:
    """Frames in which something certainly holds, and those in which somebody could say that it does."""

    certain: Flags
    possible: Flags

    def __and__(self, other: Truth) -> Truth:
        return Truth(self.certain & other.certain, self.possible & other.possible)

    def __or__(self, other: Truth) -> Truth:
        return Truth(self.certain | other.certain, self.possible | other.possible)

    @property
    def clear(self) -> bool:
        """Whether both readings are the same in every frame."""
        return bool(np.array_equal(self.certain, self.possible))


@dataclass(frozen=True)
class Match:
    """Actors of a scene that a clause can mean (the subject first), and in which frames of the scene."""

    tracks: tuple[Track, ...]
    truth: Truth


# Actions that a person could also call by the name of another.
_ALSO_SEEN_AS = {
    Action.REST: (Action.BLINK, Action.SPIN, Action.GROW, Action.SHRINK),
    Action.RISE: (Action.BOUNCE,),
    Action.FALL: (Action.BOUNCE,),
    Action.MOVE_LEFT: (Action.CIRCLE,),
    Action.MOVE_RIGHT: (Action.CIRCLE,),
}
_STAYING = tuple(action for action in Action if action.stays)
CLEAR_SIZE, ARGUABLE_SIZE = 0.05, 0.25  # relative difference from the size's radius
IN_CORNER, NEAR_CORNER = 0.16, 0.3  # heights from the farther of the corner's two edges
BESIDE, NEAR = 0.06, 0.2  # heights between two actors


def find_truth(meaning: Meaning, scenes: Sequence[SceneTracks]) -> Truth:
    """Frames of the video in which a meaning holds; ``scenes`` are the whole video."""
    frames = scenes[-1].span.stop
    whole = Truth(np.zeros(frames, dtype=bool), np.zeros(frames, dtype=bool))
    for scene in scenes:
        if meaning.place not in (None, scene.scene.place):
            continue
        length = scene.span.stop - scene.span.start
        truth = _constant(length, True)
        for clause in meaning.clauses:
            truth &= reduce(or_, (match.truth for match in find_matches(clause, scene)), _constant(length, False))
        whole.certain[scene.span], whole.possible[scene.span] = truth.certain, truth.possible
    return whole


def find_matches(clause: Clause, scene: SceneTracks) -> list[Match]:
    """The actors of a scene that a clause can mean, and when."""
    matches = []
    for index, track in enumerate(scene.tracks):
        own = _looks_like(clause.subject, track) & _does(clause.action, track) & _is_in(clause.corner, track)
        if not own.possible.any():
            continue
        if clause.center is None and clause.neighbor is None:
            matches.append(Match((track,), own))
        for other_index, other in enumerate(scene.tracks):
            if clause.center is not None and track.actor.center == other_index:
                matches.append(Match((track, other), own & _looks_like(clause.center, other)))
            if clause.neighbor is not None and other_index != index:
                beside = _looks_like(clause.neighbor, other) & _are_beside(track, other)
                matches.append(Match((track, other), own & beside))
    return matches


def split_atoms(meaning: Meaning) -> list[Meaning]:
    """Everything that a meaning says, one thing at a time."""
    atoms = [] if meaning.place is None else [Meaning(place=meaning.place)]
    for clause in meaning.clauses:
        for look in (clause.subject, clause.center, clause.neighbor):
            if look is not None:
                parts = (Look(color=look.color), Look(shape=look.shape), Look(size=look.size))
                atoms += [Meaning(clauses=(Clause(part),)) for part in parts if part != Look()]
        if clause.action is not None:
            atoms.append(Meaning(clauses=(Clause(Look(), action=clause.action),)))
        if clause.corner is not None:
            atoms.append(Meaning(clauses=(Clause(Look(), corner=clause.corner),)))
        if clause.neighbor is not None:
            atoms.append(Meaning(clauses=(Clause(Look(), neighbor=Look()),)))
    return list(dict.fromkeys(atoms))


def to_windows(flags: Flags) -> tuple[tuple[float, float], ...]:
    """Runs of frames as starts and ends in seconds.

    Example:
        >>> to_windows(np.array([False, True, True, False, True]))
        ((0.1, 0.3), (0.4, 0.5))
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return tuple((int(start) / FPS, int(end) / FPS) for start, end in edges.reshape(-1, 2))


def _constant(frames: int, value: bool) -> Truth:
    flags = np.full(frames, value)
    return Truth(flags, flags)


def _is_one_of(track: Track, actions: tuple[Action, ...]) -> Flags:
    return np.isin(track.actions, [action.value for action in actions])


def _looks_like(look: Look, track: Track) -> Truth:
    same = look.color in (None, track.actor.color) and look.shape in (None, track.actor.shape)
    truth = _constant(len(track.actions), same)
    if look.size is None:
        return truth
    difference = np.abs(track.pose.radius / look.size.value - 1)
    changing = _is_one_of(track, (Action.GROW, Action.SHRINK))
    return truth & Truth((difference < CLEAR_SIZE) & ~changing, (difference < ARGUABLE_SIZE) | changing)


def _does(action: Action | None, track: Track) -> Truth:
    if action is None:
        return _constant(len(track.actions), True)
    return Truth(_is_one_of(track, (action,)), _is_one_of(track, (action, *_ALSO_SEEN_AS.get(action, ()))))


def _is_in(corner: Corner | None, track: Track) -> Truth:
    if corner is None:
        return _constant(len(track.actions), True)
    if corner is Corner.ANY:
        return reduce(or_, (_is_in(one, track) for one in Corner if one is not Corner.ANY))
    right, bottom = corner.value
    distance = np.maximum(
        np.abs(track.pose.x - right) - track.pose.radius, np.abs(track.pose.y - bottom) - track.pose.radius
    )
    return Truth((distance < IN_CORNER) & _is_one_of(track, _STAYING), distance < NEAR_CORNER)


def _are_beside(track: Track, other: Track) -> Truth:
    gap = distance_between(track.pose, other.pose) - track.pose.radius - other.pose.radius
    stay = _is_one_of(track, _STAYING) & _is_one_of(other, _STAYING)
    return Truth((gap < BESIDE) & (gap > 0) & stay, gap < NEAR)


CLIP_SECONDS = 2
BEST, WORST = 4, 1  # highest and lowest rating of a relevant clip; others have 0

# A row for each rater; columns are size, visibility and slowness. Each rater cares about another one.
_WEIGHTS = np.array([(0.6, 0.2, 0.2), (0.2, 0.6, 0.2), (0.2, 0.2, 0.6)])
_FAST = 0.4  # heights per second, from which an actor is as hard to follow as can be
_STRICTNESS = np.array([6, 8, 10])  # grades between a rater's best clip and one that shows nothing


def rate_clips(meaning: Meaning, scenes: Sequence[SceneTracks]) -> Floats:
    """Ratings of all clips of a video for one query.

    A clip is relevant if the query is true in its middle, which is the frame that models see. Each rater gives the best
    relevant clip 4 and grades the others against it.

    Returns:
        float64 ``[clips, 3]``, whole numbers in [0, 4]; 0 outside the moments.
    """
    true = find_truth(meaning, scenes).certain
    clarity = np.concatenate([_grade_frames(meaning, scene) for scene in scenes])
    length = CLIP_SECONDS * FPS
    quality = (clarity * true[:, None]).reshape(-1, length, 3).mean(axis=1) @ _WEIGHTS.T
    relevant = true.reshape(-1, length)[:, length // 2]
    best = np.maximum(quality[relevant].max(axis=0, initial=0), 1e-9)
    ratings = np.clip(BEST - np.round((1 - quality / best) * _STRICTNESS), WORST, BEST)
    return np.asarray(ratings * relevant[:, None])


def _grade_frames(meaning: Meaning, scene: SceneTracks) -> Floats:
    """Size, visibility and slowness ``[frames, 3]`` in [0, 1] of the actors that the query means, at worst."""
    grades = np.ones((scene.span.stop - scene.span.start, 3))
    for clause in meaning.clauses:
        found = np.zeros_like(grades)
        for match in find_matches(clause, scene):
            worst = np.min([_grade_track(track) for track in match.tracks], axis=0)
            found = np.maximum(found, worst * match.truth.certain[:, None])
        grades = np.minimum(grades, found)
    return grades


def _grade_track(track: Track) -> Floats:
    pose = track.pose
    speed = np.hypot(np.gradient(pose.x), np.gradient(pose.y)) * FPS
    size = np.clip(pose.radius / Size.LARGE.value, 0, 1)
    return np.stack([size, track.visible * pose.lit, 1 - np.clip(speed / _FAST, 0, 1)], axis=1)
