"""Chooses the queries of a video, present and absent ones, and annotates them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from itertools import combinations
from random import Random
from typing import TypeVar

import numpy as np

from r2tuning.datasets.annotations import Annotation
from r2tuning.synthetic.actions import SceneTracks, Track, fits_shape, track_script
from r2tuning.synthetic.language import phrase
from r2tuning.synthetic.scenes import (
    FPS,
    WORLD_VERSION,
    Action,
    Corner,
    Script,
    Size,
    Split,
    is_held_out,
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
SHORTEST_MOMENT = 6.0  # seconds
LARGEST_SHARE = 0.6  # largest share of the video that the moments of a query may cover
_DISTRACTION = 2 * FPS  # least number of frames outside the moments in which each part of a query is true

_SECONDS_PER_QUERY: dict[Split, float] = {"train": 4, "val": 14, "test": 14}  # models lack sentences most
_FEWEST_QUERIES = 3
_SECONDS_PER_ABSENT: dict[Split, float] = {"train": 8, "val": 45, "test": 45}
_TRIES, _TRIES_PER_QUERY, _TRIES_PER_KIND = 60, 8, 15


_Member = TypeVar("_Member", bound=Enum)


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
    """A sentence, what it means, and starts and ends in seconds of the moments in which it is true."""

    meaning: Meaning
    text: str
    windows: tuple[tuple[float, float], ...]


def choose_queries(script: Script) -> list[Query]:
    """Queries with one to three clear moments in the video; rarely, a test video has none.

    Each part of a query is also true elsewhere in the video, unless the query has a single part. An actor that does
    something is also seen doing something else, unless the video would then have fewer than three queries.
    """
    chance = Random(f"queries {WORLD_VERSION} {script.vid}")
    scenes = track_script(script)
    wanted = max(_FEWEST_QUERIES, round(script.duration / _SECONDS_PER_QUERY[script.split]))
    chosen: dict[Meaning, Query] = {}
    for attempt in range(2 * _TRIES_PER_QUERY * wanted):
        # Some short videos would have no queries if no actor could be identified by its look alone.
        fussy = attempt < _TRIES_PER_QUERY * wanted
        if not fussy and len(chosen) >= _FEWEST_QUERIES:
            break
        (kind,) = chance.choices(list(_Kind), [kind.value for kind in _Kind])
        # Several draws of one kind, or kinds that are easy to find would prevail.
        for _ in range(_TRIES_PER_KIND):
            meaning = _draw_meaning(chance, kind, script, chance.choice(scenes))
            windows = () if meaning is None or meaning in chosen else find_moments(meaning, scenes)
            if meaning is None or not windows or not is_distracted(meaning, scenes):
                continue
            if not fussy or is_seen_otherwise(meaning, scenes):
                chosen[meaning] = Query(meaning, phrase(chance, meaning), windows)
                break
        if len(chosen) >= wanted:
            break
    return list(chosen.values())


def choose_absent_queries(script: Script, queries: Sequence[Query]) -> list[Query]:
    """Queries that are true of no moment of the video: its ``queries`` with one thing changed."""
    chance = Random(f"absent queries {WORLD_VERSION} {script.vid}")
    scenes = track_script(script)
    present = [query.meaning for query in queries if len(split_atoms(query.meaning)) > 1]
    wanted = max(1, round(script.duration / _SECONDS_PER_ABSENT[script.split]))
    chosen: dict[Meaning, Query] = {}
    for _ in range(max(_TRIES, _TRIES_PER_QUERY * wanted) if present else 0):
        meaning = _change_one_thing(chance, chance.choice(present))
        allowed = _is_possible(meaning) and (script.split == "test" or not names_held_out(meaning))
        if allowed and meaning not in chosen and not find_truth(meaning, scenes).possible.any():
            chosen[meaning] = Query(meaning, phrase(chance, meaning), ())
        if len(chosen) >= wanted:
            break
    return list(chosen.values())


def find_moments(meaning: Meaning, scenes: Sequence[SceneTracks]) -> tuple[tuple[float, float], ...]:
    """Moments of a meaning in seconds; none if they are arguable, too many, too short or too long together."""
    truth = find_truth(meaning, scenes)
    windows = to_windows(truth.certain)
    if not truth.clear or len(windows) > MOST_MOMENTS or truth.certain.mean() > LARGEST_SHARE:
        return ()
    if any(end - start < SHORTEST_MOMENT for start, end in windows):
        return ()
    return windows


def is_distracted(meaning: Meaning, scenes: Sequence[SceneTracks]) -> bool:
    """Whether each thing that a meaning says is also true where the whole is not."""
    atoms = split_atoms(meaning)
    return len(atoms) == 1 or _are_elsewhere(atoms, meaning, scenes)


def is_seen_otherwise(meaning: Meaning, scenes: Sequence[SceneTracks]) -> bool:
    """Whether actors of which it says more than their look are also seen where that is false.

    Otherwise a model that finds the red star has found when the red star falls.
    """
    subjects = [Clause(clause.subject) for clause in meaning.clauses if clause != Clause(clause.subject)]
    return _are_elsewhere([Meaning(clauses=(subject,)) for subject in subjects], meaning, scenes)


def _are_elsewhere(parts: Sequence[Meaning], whole: Meaning, scenes: Sequence[SceneTracks]) -> bool:
    truth = find_truth(whole, scenes)
    return all((find_truth(part, scenes).certain & ~truth.possible).sum() >= _DISTRACTION for part in parts)


def names_held_out(meaning: Meaning) -> bool:
    """Whether it names a combination of color, shape and action that only the test split shows."""
    named = [(clause.subject.color, clause.subject.shape, clause.action) for clause in meaning.clauses]
    return any(color and shape and action and is_held_out(color, shape, action) for color, shape, action in named)


def _draw_meaning(chance: Random, kind: _Kind, script: Script, scene: SceneTracks) -> Meaning | None:
    """A candidate that is true at some time of the scene; None where the scene has nothing of that kind."""
    if kind is _Kind.PLACE:
        return Meaning(scene.scene.place)
    place = scene.scene.place if chance.random() < 0.25 else None
    pattern = Clause(
        Look(),
        action=Action.CIRCLE if kind is _Kind.CIRCLE else None,
        corner=chance.choice(list(Corner)) if kind is _Kind.CORNER else None,
        center=Look() if kind is _Kind.CIRCLE else None,
        neighbor=Look() if kind is _Kind.BESIDE else None,
    )
    matches = [match for match in find_matches(pattern, scene) if match.truth.certain.any()]
    if not matches:
        return None
    match = chance.choice(matches)
    track = match.tracks[0]
    frame = chance.choice([int(frame) for frame in np.flatnonzero(match.truth.certain)])
    action = Action(track.actions[frame])
    told = kind in (_Kind.ACTION, _Kind.TOGETHER, _Kind.CIRCLE) or (kind is not _Kind.LOOK and chance.random() < 0.4)
    # In the test split, every query that tells an action names a whole combination that training lacks.
    unseen = script.split == "test" and told
    if unseen and not is_held_out(track.actor.color, track.actor.shape, action):
        return None
    if action is Action.CIRCLE and told and kind is not _Kind.CIRCLE:
        return None  # a query about circling names the actor that is circled
    # Actions that take no room are staged most often.
    if told and action in (Action.REST, Action.SPIN, Action.BLINK) and chance.random() < 0.6:
        return None
    first = replace(
        pattern,
        subject=_draw_look(chance, track, frame, whole=unseen or kind is _Kind.LOOK),
        action=action if told else None,
        center=_draw_look(chance, match.tracks[1], frame) if pattern.center is not None else None,
        neighbor=_draw_look(chance, match.tracks[1], frame) if pattern.neighbor is not None else None,
    )
    if kind is not _Kind.TOGETHER:
        return Meaning(place, (first,))
    others = [other for other in scene.tracks if other is not track]
    companions = chance.sample(others, min(len(others), chance.choice((1, 1, 2))))
    clauses = (first, *(_draw_companion(chance, scene, other, frame) for other in companions))
    return Meaning(place, clauses) if len(clauses) > 1 and _tell_apart(clauses) else None


def _draw_companion(chance: Random, scene: SceneTracks, other: Track, frame: int) -> Clause:
    """What another actor does at the same time."""
    action, center = Action(other.actions[frame]), None
    if action is Action.CIRCLE and other.actor.center is not None:
        center = _draw_look(chance, scene.tracks[other.actor.center], frame)
    return Clause(_draw_look(chance, other, frame), action, center=center)


def _draw_look(chance: Random, track: Track, frame: int, *, whole: bool = False) -> Look:
    """Color, shape or both (``whole``: both), at times with the size."""
    with_color, with_shape = whole or chance.random() < 0.8, whole or chance.random() < 0.8
    sizes = [size for size in Size if abs(track.pose.radius[frame] / size.value - 1) < 1e-6]
    return Look(
        color=track.actor.color if with_color or not with_shape else None,
        shape=track.actor.shape if with_shape else None,
        size=sizes[0] if sizes and chance.random() < 0.4 else None,
    )


def _tell_apart(clauses: Sequence[Clause]) -> bool:
    """Whether no actor could be the subject of two of them."""
    looks = [(clause.subject.color, clause.subject.shape) for clause in clauses]
    return all(
        any(a and b and a is not b for a, b in zip(one, other, strict=True)) for one, other in combinations(looks, 2)
    )


def _change_one_thing(chance: Random, meaning: Meaning) -> Meaning:
    """The meaning with one thing replaced by another."""
    if meaning.place is not None and (not meaning.clauses or chance.random() < 0.2):
        return replace(meaning, place=_another(chance, meaning.place))
    index = chance.randrange(len(meaning.clauses))
    clause = meaning.clauses[index]
    options = [replace(clause, subject=look) for look in _change_look(chance, clause.subject)]
    if clause.center is not None:
        options += [replace(clause, center=look) for look in _change_look(chance, clause.center)]
    elif clause.action is not None and clause.action is not Action.CIRCLE:
        options.append(replace(clause, action=_another(chance, clause.action, Action.CIRCLE)))
    if clause.neighbor is not None:
        options += [replace(clause, neighbor=look) for look in _change_look(chance, clause.neighbor)]
    if clause.corner is not None:
        options.append(replace(clause, corner=_another(chance, clause.corner, Corner.ANY)))
    clauses = list(meaning.clauses)
    clauses[index] = chance.choice(options)
    return replace(meaning, clauses=tuple(clauses))


def _change_look(chance: Random, look: Look) -> list[Look]:
    """The look with one property replaced, for each that it has."""
    return [replace(look, **{name: _another(chance, value)}) for name, value in vars(look).items() if value]


def _another(chance: Random, *but: _Member) -> _Member:
    return chance.choice([member for member in type(but[0]) if member not in but])


def _is_possible(meaning: Meaning) -> bool:
    """Whether it could be true of some video: different actors, nothing round that spins."""
    return _tell_apart(meaning.clauses) and all(
        clause.action is None or clause.subject.shape is None or fits_shape(clause.action, clause.subject.shape)
        for clause in meaning.clauses
    )


def describe(script: Script) -> list[Annotation]:
    """Queries with moments, exact to the frame, and ``saliency [clips, 3]`` in 0 to 4 for clips of 2 s."""
    return _annotate(script, _remember_queries(script), "")


def describe_absent(script: Script) -> list[Annotation]:
    """Queries that are true of no moment of the video: no moments, and saliency 0 everywhere."""
    return _annotate(script, choose_absent_queries(script, _remember_queries(script)), "absent-")


@lru_cache(maxsize=1)  # queries and absent ones are asked for one after the other, and choosing takes half a second
def _remember_queries(script: Script) -> list[Query]:
    return choose_queries(script)


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
    """An annotation of this world as a line of a file in QVHighlights' format.

    Example:
        >>> ratings = np.array([[0.0, 0, 0], [2, 3, 4]])
        >>> print(to_line(Annotation("a-0", "a", "the sea", 4.0, ((1.9, 4.0),), ratings)), end="")
        {"qid": "a-0", "query": "the sea", "duration": 4, "vid": "a", "relevant_windows": [[1.9, 4.0]], \
"relevant_clip_ids": [1], "saliency_scores": [[2, 3, 4]]}
    """
    assert annotation.saliency is not None  # this world rates every query
    assert annotation.duration is not None
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
