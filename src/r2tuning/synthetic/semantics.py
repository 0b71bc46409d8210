"""What a query says, in which frames it is true, and how well that can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2tuning.synthetic.actions import Floats, SceneTracks, Track, distance_between
from r2tuning.synthetic.scenes import FPS, Action, Colour, Corner, Place, Shape, Size

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Look:
    """What an actor looks like; None leaves a property open."""

    colour: Colour | None = None
    shape: Shape | None = None
    size: Size | None = None


@dataclass(frozen=True)
class Clause:
    """One actor, with what it does and where it is; None leaves it open.

    Attributes:
        subject: The actor.
        action: What it does.
        corner: The corner it is in.
        centre: The actor that it circles; only with `Action.CIRCLE`.
        neighbour: The actor that it is next to.
    """

    subject: Look
    action: Action | None = None
    corner: Corner | None = None
    centre: Look | None = None
    neighbour: Look | None = None


@dataclass(frozen=True)
class Meaning:
    """All that a query says: the place, and clauses about different actors that hold at the same time."""

    place: Place | None = None
    clauses: tuple[Clause, ...] = ()


@dataclass(frozen=True)
class Truth:
    """Frames in which something holds.

    Attributes:
        certain: Nobody would deny it.
        possible: Somebody could say so; true wherever ``certain`` is.
    """

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
    """Actors of a scene that a clause can mean.

    Attributes:
        tracks: The subject, and the actor it is related to where the clause names one.
        truth: ``[frames of the scene]``.
    """

    tracks: tuple[Track, ...]
    truth: Truth


# An action that a person could also call by the name of another.
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
    """Frames of the video in which a meaning holds.

    Args:
        meaning: What is said.
        scenes: The whole video.

    Returns:
        ``[frames of the video]``.
    """
    frames = scenes[-1].span.stop
    whole = Truth(np.zeros(frames, dtype=bool), np.zeros(frames, dtype=bool))
    for scene in scenes:
        if meaning.place not in (None, scene.scene.place):
            continue
        truth = _always(scene)
        for clause in meaning.clauses:
            nobody = ~_always(scene).certain
            holds = Truth(nobody, nobody)
            for match in find_matches(clause, scene):
                holds = holds | match.truth
            truth = truth & holds
        whole.certain[scene.span], whole.possible[scene.span] = truth.certain, truth.possible
    return whole


def find_matches(clause: Clause, scene: SceneTracks) -> list[Match]:
    """Whom in a scene a clause can mean, and when."""
    matches = []
    for index, track in enumerate(scene.tracks):
        own = _looks_like(clause.subject, track) & _does(clause.action, track) & _is_in(clause.corner, track)
        if not own.possible.any():
            continue
        if clause.centre is None and clause.neighbour is None:
            matches.append(Match((track,), own))
        for other_index, other in enumerate(scene.tracks):
            if clause.centre is not None and track.centre == other_index:
                matches.append(Match((track, other), own & _looks_like(clause.centre, other)))
            if clause.neighbour is not None and other_index != index:
                beside = _looks_like(clause.neighbour, other) & _are_beside(track, other)
                matches.append(Match((track, other), own & beside))
    return matches


def split_atoms(meaning: Meaning) -> list[Meaning]:
    """Everything that a meaning says, one thing at a time.

    Example:
        >>> [atom.clauses[0].subject for atom in split_atoms(Meaning(clauses=(Clause(Look(Colour.RED, Shape.STAR)),)))]
        [Look(colour=<Colour.RED: (222, 40, 46)>, shape=None, size=None), \
Look(colour=None, shape=<Shape.STAR: ('star', 5)>, size=None)]
    """
    atoms = [] if meaning.place is None else [Meaning(place=meaning.place)]
    for clause in meaning.clauses:
        for look in (clause.subject, clause.centre, clause.neighbour):
            if look is not None:
                parts = (Look(colour=look.colour), Look(shape=look.shape), Look(size=look.size))
                atoms += [Meaning(clauses=(Clause(part),)) for part in parts if part != Look()]
        if clause.action is not None:
            atoms.append(Meaning(clauses=(Clause(Look(), action=clause.action),)))
        if clause.corner is not None:
            atoms.append(Meaning(clauses=(Clause(Look(), corner=clause.corner),)))
        if clause.neighbour is not None:
            atoms.append(Meaning(clauses=(Clause(Look(), neighbour=Look()),)))
    return list(dict.fromkeys(atoms))


def to_windows(flags: Flags) -> tuple[tuple[float, float], ...]:
    """Runs of frames as starts and ends in seconds.

    Example:
        >>> to_windows(np.array([False, True, True, False, True]))
        ((0.1, 0.3), (0.4, 0.5))
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return tuple((int(start) / FPS, int(end) / FPS) for start, end in edges.reshape(-1, 2))


def _always(scene: SceneTracks) -> Truth:
    flags = np.ones(scene.span.stop - scene.span.start, dtype=bool)
    return Truth(flags, flags)


def _flags(track: Track, value: bool) -> Flags:
    return np.full(len(track.actions), value)


def _is_one_of(track: Track, actions: tuple[Action, ...]) -> Flags:
    return np.isin(track.actions, [action.value for action in actions])


def _looks_like(look: Look, track: Track) -> Truth:
    same = look.colour in (None, track.actor.colour) and look.shape in (None, track.actor.shape)
    truth = Truth(_flags(track, same), _flags(track, same))
    if look.size is None:
        return truth
    difference = np.abs(track.pose.radius / look.size.value - 1)
    changing = _is_one_of(track, (Action.GROW, Action.SHRINK))
    return truth & Truth((difference < CLEAR_SIZE) & ~changing, (difference < ARGUABLE_SIZE) | changing)


def _does(action: Action | None, track: Track) -> Truth:
    if action is None:
        return Truth(_flags(track, True), _flags(track, True))
    return Truth(_is_one_of(track, (action,)), _is_one_of(track, (action, *_ALSO_SEEN_AS.get(action, ()))))


def _is_in(corner: Corner | None, track: Track) -> Truth:
    if corner is None:
        return Truth(_flags(track, True), _flags(track, True))
    if corner is Corner.ANY:
        four = [_is_in(one, track) for one in Corner if one is not Corner.ANY]
        return four[0] | four[1] | four[2] | four[3]
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
BEST, WORST = 4, 1
"""Ratings of relevant clips; others have 0."""

# A row for each rater, a column each for size, occlusion and speed: what one looks at first, the others hardly notice.
_WEIGHTS = np.array([(0.6, 0.2, 0.2), (0.2, 0.6, 0.2), (0.2, 0.2, 0.6)])
_FAST = 0.4  # heights per second, at which an actor is as hard to follow as it gets
_STRICTNESS = np.array([6, 8, 10])  # grades between a rater's best clip and one in which nothing can be seen


def rate_clips(meaning: Meaning, scenes: Sequence[SceneTracks]) -> Floats:
    """Ratings of all clips of a video for one query.

    A clip is relevant where the query is true of its middle, which is the frame that models look at. Each rater gives
    the best relevant clip 4 and grades the others against it.

    Args:
        meaning: What the query says.
        scenes: The video.

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
    """Size, visibility and slowness ``[frames, 3]`` in [0, 1] of whom the query means; of several, the worst."""
    grades = np.ones((scene.span.stop - scene.span.start, 3))
    for clause in meaning.clauses:
        found = np.zeros_like(grades)
        for match in find_matches(clause, scene):
            found = np.maximum(found, _grade_match(match) * match.truth.certain[:, None])
        grades = np.minimum(grades, found)
    return grades


def _grade_match(match: Match) -> Floats:
    return np.asarray(np.min([_grade_track(track) for track in match.tracks], axis=0))


def _grade_track(track: Track) -> Floats:
    pose = track.pose
    speed = np.hypot(np.gradient(pose.x), np.gradient(pose.y)) * FPS
    size = np.clip(pose.radius / Size.LARGE.value, 0, 1)
    return np.stack([size, track.visible * pose.lit, 1 - np.clip(speed / _FAST, 0, 1)], axis=1)
