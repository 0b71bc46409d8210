"""Chooses the queries of a video, those that match and those that do not, and annotates them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import combinations
from random import Random
from typing import TypeVar

import numpy as np

from r2tuning.datasets.annotations import Annotation
from r2tuning.synthetic.actions import SceneTracks, Track, fits_shape, track_script
from r2tuning.synthetic.language import phrase
from r2tuning.synthetic.scenes import (
    WORLD_VERSION,
    Action,
    Colour,
    Corner,
    Place,
    Script,
    Shape,
    Size,
    Split,
    is_held_out,
    to_frame,
)
from r2tuning.synthetic.semantics import (
    Clause,
    Look,
    Meaning,
    find_matches,
    find_truth,
    rate_clips,
    split_atoms,
    to_windows,
)

MOST_MOMENTS = 3
SHORTEST_MOMENT = 6.0
"""Seconds."""
LARGEST_SHARE = 0.6
"""Of the video, that moments cover together at most; a query true of nearly all of it asks for nothing."""
SHORTEST_DISTRACTION = 2.0
"""Seconds, outside the moments, for which each single word of a query is true too."""

SECONDS_PER_QUERY: dict[Split, float] = {"train": 4, "val": 14, "test": 14}
"""Of video. Questions that nobody is scored on are cheap, and what a model lacks most is sentences."""
_FEWEST_QUERIES = 3
_SECONDS_PER_ABSENT = 45
_TRIES, _TRIES_PER_QUERY, _TRIES_PER_KIND = 60, 8, 15


class _Kind(Enum):
    """What a query is about; the value is how often, in parts."""

    PLACE = 0.5
    LOOK = 0.6
    ACTION = 4.5
    CIRCLE = 1.2
    CORNER = 1.3
    BESIDE = 1.4
    TOGETHER = 1.5  # two actors at the same time


@dataclass(frozen=True)
class Query:
    """A question to a video.

    Attributes:
        meaning: What it says.
        text: How it says so.
        windows: Starts and ends in seconds of the moments in which it is true; none where it is true of none.
    """

    meaning: Meaning
    text: str
    windows: tuple[tuple[float, float], ...]


def choose_queries(script: Script) -> list[Query]:
    """Questions with one to three moments in the video, from coarse to fine; of a rare video of the test split, none.

    Of each, every single word is also true elsewhere in the video (but of those that say only one thing), and no
    moment is open to argument. Whoever does something is also seen doing something else, unless a video would then have
    fewer than three queries.
    """
    chance = Random(f"queries {WORLD_VERSION} {script.vid}")
    scenes = track_script(script)
    wanted = max(_FEWEST_QUERIES, round(script.duration / SECONDS_PER_QUERY[script.split]))
    chosen: dict[Meaning, Query] = {}
    for attempt in range(2 * _TRIES_PER_QUERY * wanted):
        # Of some short videos nothing could be asked if nobody could be known by looks alone.
        fussy = attempt < _TRIES_PER_QUERY * wanted
        if not fussy and len(chosen) >= _FEWEST_QUERIES:
            break
        (kind,) = chance.choices(list(_Kind), [kind.value for kind in _Kind])
        # Several draws of one kind before another has its turn, or only kinds would be left that are easy to find.
        for _ in range(_TRIES_PER_KIND):
            meaning = _draw_meaning(chance, kind, script, chance.choice(scenes))
            windows = () if meaning is None or meaning in chosen else find_moments(meaning, scenes)
            if meaning is None or not windows or not is_distracted(meaning, scenes):
                continue
            if is_seen_otherwise(meaning, scenes) or not fussy:
                chosen[meaning] = Query(meaning, phrase(chance, meaning), windows)
                break
        if len(chosen) >= wanted:
            break
    return list(chosen.values())


def choose_absent_queries(script: Script, queries: Sequence[Query]) -> list[Query]:
    """Questions that are true of no moment of the video, though they would be but for one word.

    Args:
        script: The video.
        queries: What is asked of it not in vain.
    """
    chance = Random(f"absent queries {WORLD_VERSION} {script.vid}")
    scenes = track_script(script)
    present = [query.meaning for query in queries if len(split_atoms(query.meaning)) > 1]
    wanted = max(1, round(script.duration / _SECONDS_PER_ABSENT))
    chosen: dict[Meaning, Query] = {}
    for _ in range(_TRIES if present else 0):
        meaning = _change_one_thing(chance, chance.choice(present))
        allowed = _is_sensible(meaning) and (script.split == "test" or not names_held_out(meaning))
        if allowed and meaning not in chosen and not find_truth(meaning, scenes).possible.any():
            chosen[meaning] = Query(meaning, phrase(chance, meaning), ())
        if len(chosen) >= wanted:
            break
    return list(chosen.values())


def find_moments(meaning: Meaning, scenes: Sequence[SceneTracks]) -> tuple[tuple[float, float], ...]:
    """Moments of a meaning in seconds; none where they are open to argument, too many, too short or too much."""
    truth = find_truth(meaning, scenes)
    windows = to_windows(truth.certain)
    if not truth.clear or len(windows) > MOST_MOMENTS or truth.certain.mean() > LARGEST_SHARE:
        return ()
    if any(end - start < SHORTEST_MOMENT for start, end in windows):
        return ()
    return windows


def is_distracted(meaning: Meaning, scenes: Sequence[SceneTracks]) -> bool:
    """Whether each single thing that a meaning says is also true where the whole is not."""
    atoms = split_atoms(meaning)
    return len(atoms) == 1 or _are_elsewhere(atoms, meaning, scenes)


def is_seen_otherwise(meaning: Meaning, scenes: Sequence[SceneTracks]) -> bool:
    """Whether those of whom it says more than their look are also seen where that is not so.

    Else a model that finds the red star has found when the red star falls.
    """
    subjects = [Clause(clause.subject) for clause in meaning.clauses if clause != Clause(clause.subject)]
    return _are_elsewhere([Meaning(clauses=(subject,)) for subject in subjects], meaning, scenes)


def _are_elsewhere(parts: Sequence[Meaning], whole: Meaning, scenes: Sequence[SceneTracks]) -> bool:
    truth = find_truth(whole, scenes)
    needed = to_frame(SHORTEST_DISTRACTION)
    return all(np.count_nonzero(find_truth(part, scenes).certain & ~truth.possible) >= needed for part in parts)


def names_held_out(meaning: Meaning) -> bool:
    """Whether it names a combination of colour, shape and action that only the test split holds."""
    return any(
        clause.action is not None
        and clause.subject.colour is not None
        and clause.subject.shape is not None
        and is_held_out(clause.subject.colour, clause.subject.shape, clause.action)
        for clause in meaning.clauses
    )


def _draw_meaning(chance: Random, kind: _Kind, script: Script, scene: SceneTracks) -> Meaning | None:
    """A candidate, true at some time of the scene; None where nothing in it is of that kind."""
    if kind is _Kind.PLACE:
        return Meaning(scene.scene.place)
    place = scene.scene.place if chance.random() < 0.25 else None
    pattern = Clause(
        Look(),
        action=Action.CIRCLE if kind is _Kind.CIRCLE else None,
        corner=chance.choice(list(Corner)) if kind is _Kind.CORNER else None,
        centre=Look() if kind is _Kind.CIRCLE else None,
        neighbour=Look() if kind is _Kind.BESIDE else None,
    )
    matches = [match for match in find_matches(pattern, scene) if match.truth.certain.any()]
    if not matches:
        return None
    match = chance.choice(matches)
    track = match.tracks[0]
    frame = chance.choice([int(frame) for frame in np.flatnonzero(match.truth.certain)])
    action = Action(track.actions[frame])
    told = kind in (_Kind.ACTION, _Kind.TOGETHER, _Kind.CIRCLE) or (kind is not _Kind.LOOK and chance.random() < 0.4)
    # In the test split, whatever tells an action is about a combination that training lacks, and says all of it.
    unseen = script.split == "test" and told
    if unseen and not is_held_out(track.actor.colour, track.actor.shape, action):
        return None
    if action is Action.CIRCLE and told and kind is not _Kind.CIRCLE:
        return None  # it is not told without the actor that is circled
    # What takes no room is staged more often than the rest, and would be asked for most.
    if told and action in (Action.REST, Action.SPIN, Action.BLINK) and chance.random() < 0.6:
        return None
    first = replace(
        pattern,
        subject=_draw_look(chance, track, frame, whole=unseen or kind is _Kind.LOOK),
        action=action if told else None,
        centre=_draw_look(chance, match.tracks[1], frame) if pattern.centre is not None else None,
        neighbour=_draw_look(chance, match.tracks[1], frame) if pattern.neighbour is not None else None,
    )
    if kind is not _Kind.TOGETHER:
        return Meaning(place, (first,))
    others = [other for other in scene.tracks if other is not track]
    companions = chance.sample(others, min(len(others), chance.choice((1, 1, 2))))
    clauses = (first, *(_draw_companion(chance, scene, other, frame) for other in companions))
    return Meaning(place, clauses) if len(clauses) > 1 and _tell_apart(clauses) else None


def _draw_companion(chance: Random, scene: SceneTracks, other: Track, frame: int) -> Clause:
    """What another actor does at the same time."""
    action = Action(other.actions[frame])
    centre = None
    if action is Action.CIRCLE and other.centre is not None:
        centre = _draw_look(chance, scene.tracks[other.centre], frame)
    return Clause(_draw_look(chance, other, frame), action, centre=centre)


def _draw_look(chance: Random, track: Track, frame: int, *, whole: bool = False) -> Look:
    """Colour, shape or both (``whole``: both), at times with the size."""
    with_colour, with_shape = whole or chance.random() < 0.8, whole or chance.random() < 0.8
    sizes = [size for size in Size if abs(track.pose.radius[frame] / size.value - 1) < 1e-6]
    return Look(
        colour=track.actor.colour if with_colour or not with_shape else None,
        shape=track.actor.shape if with_shape else None,
        size=sizes[0] if sizes and chance.random() < 0.4 else None,
    )


def _tell_apart(clauses: Sequence[Clause]) -> bool:
    """Whether no actor could be the subject of two of them."""
    return all(
        _differ(one.subject.colour, other.subject.colour) or _differ(one.subject.shape, other.subject.shape)
        for one, other in combinations(clauses, 2)
    )


def _differ(one: Enum | None, other: Enum | None) -> bool:
    return one is not None and other is not None and one is not other


def _change_one_thing(chance: Random, meaning: Meaning) -> Meaning:
    """The meaning with one of the things that it says replaced by another."""
    if meaning.place is not None and (not meaning.clauses or chance.random() < 0.2):
        return replace(meaning, place=_another(chance, Place, meaning.place))
    index = chance.randrange(len(meaning.clauses))
    clause = meaning.clauses[index]
    options = [replace(clause, subject=look) for look in _change_look(chance, clause.subject)]
    if clause.centre is not None:
        options += [replace(clause, centre=look) for look in _change_look(chance, clause.centre)]
    elif clause.action is not None and clause.action is not Action.CIRCLE:
        options.append(replace(clause, action=_another(chance, Action, clause.action, Action.CIRCLE)))
    if clause.neighbour is not None:
        options += [replace(clause, neighbour=look) for look in _change_look(chance, clause.neighbour)]
    if clause.corner is not None:
        options.append(replace(clause, corner=_another(chance, Corner, clause.corner, Corner.ANY)))
    clauses = list(meaning.clauses)
    clauses[index] = chance.choice(options)
    return replace(meaning, clauses=tuple(clauses))


def _change_look(chance: Random, look: Look) -> list[Look]:
    """The look with one property replaced, for each that it has."""
    options = []
    if look.colour is not None:
        options.append(replace(look, colour=_another(chance, Colour, look.colour)))
    if look.shape is not None:
        options.append(replace(look, shape=_another(chance, Shape, look.shape)))
    if look.size is not None:
        options.append(replace(look, size=_another(chance, Size, look.size)))
    return options


_Member = TypeVar("_Member", bound=Enum)


def _another(chance: Random, kind: type[_Member], *but: _Member) -> _Member:
    return chance.choice([member for member in kind if member not in but])


def _is_sensible(meaning: Meaning) -> bool:
    """Whether it could be true of some video: two actors that can be told apart, nothing round that spins."""
    return _tell_apart(meaning.clauses) and all(
        clause.action is None or clause.subject.shape is None or fits_shape(clause.action, clause.subject.shape)
        for clause in meaning.clauses
    )


def describe(script: Script) -> list[Annotation]:
    """Queries with one to three moments in the video.

    Returns:
        ``moments`` are exact to the frame, ``saliency`` is ``[clips, 3]`` in 0 to 4 for clips of 2 s.
    """
    return _annotate(script, choose_queries(script), "")


def describe_absent(script: Script) -> list[Annotation]:
    """Queries that are true of no moment of the video: ``moments`` are empty, and ``saliency`` is 0 everywhere."""
    return _annotate(script, choose_absent_queries(script, choose_queries(script)), "absent-")


def _annotate(script: Script, queries: Sequence[Query], mark: str) -> list[Annotation]:
    scenes = track_script(script)
    return [
        Annotation(
            qid=f"{script.vid}-{mark}{number}",
            vid=script.vid,
            query=query.text,
            duration=script.duration,
            moments=query.windows,
            saliency=rate_clips(query.meaning, scenes),
        )
        for number, query in enumerate(queries)
    ]


def to_line(annotation: Annotation) -> str:
    """An annotation as a line of a file in QVHighlights' format.

    Raises:
        ValueError: If it has no ratings.

    Example:
        >>> ratings = np.array([[0.0, 0, 0], [2, 3, 4]])
        >>> print(to_line(Annotation("a-0", "a", "the sea", 4.0, ((1.9, 4.0),), ratings)), end="")
        {"qid": "a-0", "query": "the sea", "duration": 4, "vid": "a", "relevant_windows": [[1.9, 4.0]], \
"relevant_clip_ids": [1], "saliency_scores": [[2, 3, 4]]}
    """
    if annotation.saliency is None or annotation.duration is None:
        raise ValueError(f"query {annotation.qid!r} has no ratings or no duration, which the format needs")
    clips = np.flatnonzero(annotation.saliency.any(axis=1))
    entry = {
        "qid": annotation.qid,
        "query": annotation.query,
        "duration": int(annotation.duration),
        "vid": annotation.vid,
        "relevant_windows": annotation.moments,
        "relevant_clip_ids": clips.tolist(),
        "saliency_scores": annotation.saliency[clips].astype(int).tolist(),
    }
    return json.dumps(entry) + "\n"
