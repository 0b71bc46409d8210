"""Captions of drawn frames, and the frames and patches of which they are true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.moving_shapes.frames import ACTIONS, ATTRIBUTES, COLORS, CORNERS, PLACES, SHAPES, SIZES, UNKNOWN, Frames
from r2tuning.synthetic.actions import BESIDE_GAP
from r2tuning.synthetic.language import phrase, say_look
from r2tuning.synthetic.scenes import Action, Corner
from r2tuning.synthetic.semantics import BESIDE, NEAR, Clause, Look, Meaning

TRUE, FALSE, OPEN = 1, 0, -1
"""Values of truth; open ones are not trained."""

_COVERED, _TOUCHED = 0.3, 0.02  # covered share of a patch from which an actor is visible, or doubtful
_COLOR, _SHAPE, _SIZE, _ACTION, _CORNER = range(len(ATTRIBUTES))
_TELL_ACTION = 0.15  # how often a clause tells an action, which a single frame hardly shows
_STAYING = np.array([action.stays for action in ACTIONS])


@dataclass(frozen=True)
class Batch:
    """Frames with sentences.

    Attributes:
        captions: M sentences about whole frames.
        caption_truth: int8 ``[B, M]``.
        looks: L phrases about single actors, half of them at the end of a longer sentence.
        alone: ``[L]``, whether the phrase is a whole text.
        look_truth: int8 ``[B, patches, L]``.
        owners: int8 ``[B, patches]``, the actor that a patch shows; -1 for none or several.
        touched: ``[B, patches]``, whether a patch shows any part of an actor.
    """

    captions: list[str]
    caption_truth: NDArray[np.int8]
    looks: list[str]
    alone: NDArray[np.bool_]
    look_truth: NDArray[np.int8]
    owners: NDArray[np.int8]
    touched: NDArray[np.bool_]


def caption_frames(
    chance: Random, frames: Frames, indices: Sequence[int], captions: int, looks: int, grid: int
) -> Batch:
    """Invents captions and looks about some frames: half are true of one of them, half differ in one word."""
    places, attributes, geometry = frames.places[indices], frames.attributes[indices], frames.geometry[indices]
    meanings: list[Meaning] = []
    while len(meanings) < captions:
        row = chance.randrange(len(indices))
        meaning = _describe(chance, int(places[row]), attributes[row], geometry[row])
        if meaning is not None:
            meanings.append(meaning)
            if len(meanings) < captions:
                meanings.append(_change_word(chance, meaning))
    shown: list[Look] = []
    before: list[str] = []
    while len(shown) < looks:
        row = chance.randrange(len(indices))
        clause = _draw_clause(chance, attributes[row])
        if clause is not None:
            shown += [clause[0].subject, _change_look(chance, clause[0].subject)]
            before += [_begin_sentence(chance, attributes[row]) if chance.random() < 0.5 else ""] * 2
    shown, before = shown[:looks], before[:looks]
    coverage = cover(geometry, grid)
    return Batch(
        [phrase(chance, meaning) for meaning in meanings],
        np.stack([_judge(meaning, places, attributes, geometry) for meaning in meanings], axis=1),
        [beginning + say_look(chance, look) for beginning, look in zip(before, shown, strict=True)],
        np.array([not beginning for beginning in before]),
        np.stack([_judge_patches(look, attributes, coverage) for look in shown], axis=2),
        find_owners(coverage),
        np.any(coverage > _TOUCHED, axis=1),
    )


def _describe(
    chance: Random, place: int, attributes: NDArray[np.int8], geometry: NDArray[np.float32]
) -> Meaning | None:
    """Something true of a frame."""
    said_place = PLACES[place] if chance.random() < 0.3 else None
    if said_place is not None and chance.random() < 0.4:
        return Meaning(place=said_place)
    clauses: list[Clause] = []
    used: set[int] = set()
    for _ in range(1 if chance.random() < 0.7 else 2):
        drawn = _draw_clause(chance, attributes, geometry, avoid=used)
        if drawn is not None:
            clauses.append(drawn[0])
            used.add(drawn[1])
    return Meaning(said_place, tuple(clauses)) if clauses else None


def _draw_clause(
    chance: Random,
    attributes: NDArray[np.int8],
    geometry: NDArray[np.float32] | None = None,
    avoid: set[int] | frozenset[int] = frozenset(),
) -> tuple[Clause, int] | None:
    there = [slot for slot in range(len(attributes)) if attributes[slot, _SHAPE] >= 0 and slot not in avoid]
    if not there:
        return None
    slot = chance.choice(there)
    clause = Clause(_draw_look(chance, attributes[slot]))
    if geometry is None:
        return clause, slot
    action, corner = ACTIONS[attributes[slot, _ACTION]], int(attributes[slot, _CORNER])
    roll = chance.random()
    if corner >= 0 and roll < 0.5:
        clause = replace(clause, corner=CORNERS[corner] if chance.random() < 0.7 else Corner.ANY)
    elif roll < _TELL_ACTION:
        clause = replace(clause, action=action)
    gaps = _gaps(geometry[None])[0, slot]
    related = [other for other in there if other != slot and gaps[other] < BESIDE]
    if related and action is Action.CIRCLE:
        clause = replace(
            clause, corner=None, action=action, center=_draw_look(chance, attributes[chance.choice(related)])
        )
    # Whether a passing actor is next to another is arguable.
    related = [other for other in related if _STAYING[attributes[[slot, other], _ACTION]].all()]
    if related and clause.action is None and clause.corner is None:
        clause = replace(clause, neighbor=_draw_look(chance, attributes[chance.choice(related)]))
    return clause, slot


def _begin_sentence(chance: Random, attributes: NDArray[np.int8]) -> str:
    """A clause, true or not, before another actor is mentioned."""
    other = _draw_clause(chance, attributes)
    assert other is not None  # the frame shows an actor
    clause = replace(other[0], action=chance.choice([action for action in ACTIONS if action is not Action.CIRCLE]))
    return phrase(chance, Meaning(clauses=(clause,))).rstrip(".") + chance.choice((" while ", " as ", " next to "))


def _draw_look(chance: Random, attributes: NDArray[np.int8]) -> Look:
    """A part of an actor's look, at least color or shape."""
    kept = chance.choice(("c", "s", "cs", "cs", "csz", "csz", "cz", "sz"))
    return Look(
        COLORS[attributes[_COLOR]] if "c" in kept else None,
        SHAPES[attributes[_SHAPE]] if "s" in kept else None,
        SIZES[attributes[_SIZE]] if "z" in kept and attributes[_SIZE] >= 0 else None,
    )


def _change_word(chance: Random, meaning: Meaning) -> Meaning:
    """The meaning with one thing changed."""
    if not meaning.clauses or (meaning.place is not None and chance.random() < 0.3):
        return replace(meaning, place=_change(chance, meaning.place, PLACES))
    clauses = list(meaning.clauses)
    index = chance.randrange(len(clauses))
    clause = clauses[index]
    options = ["subject"] * 2
    options += [name for name in ("action", "corner", "center", "neighbor") if getattr(clause, name) is not None]
    option = chance.choice(options)
    if option == "action" and clause.center is None:
        others = [action for action in ACTIONS if action not in (clause.action, Action.CIRCLE)]
        clauses[index] = replace(clause, action=chance.choice(others))
    elif option == "corner":
        clauses[index] = replace(clause, corner=_change(chance, clause.corner, CORNERS))
    else:
        look = "subject" if option == "action" else option
        changed: dict[str, Any] = {look: _change_look(chance, getattr(clause, look))}
        clauses[index] = replace(clause, **changed)
    return replace(meaning, clauses=tuple(clauses))


def _change_look(chance: Random, look: Look) -> Look:
    kinds: dict[str, Sequence[Enum]] = {"color": COLORS, "shape": SHAPES, "size": SIZES}
    name = chance.choice([name for name in kinds if getattr(look, name) is not None])
    return replace(look, **{name: _change(chance, getattr(look, name), kinds[name])})


def _change(chance: Random, value: Enum | None, kind: Sequence[Enum]) -> Any:
    return chance.choice([other for other in kind if other is not value])


def _judge(
    meaning: Meaning, places: NDArray[np.int8], attributes: NDArray[np.int8], geometry: NDArray[np.float32]
) -> NDArray[np.int8]:
    """Truth of a meaning in every frame, ``[B]``."""
    truth = np.full(len(places), TRUE, np.int8)
    if meaning.place is not None:
        truth[places != PLACES.index(meaning.place)] = FALSE
    for clause in meaning.clauses:
        truth = _both(truth, _judge_clause(clause, attributes, geometry))
    return truth


def _judge_clause(clause: Clause, attributes: NDArray[np.int8], geometry: NDArray[np.float32]) -> NDArray[np.int8]:
    own = _judge_look(clause.subject, attributes)
    if clause.action is not None:
        own = _both(own, (attributes[..., _ACTION] == ACTIONS.index(clause.action)).astype(np.int8))
    if clause.corner is not None:
        inside = attributes[..., _CORNER]
        fits = inside >= 0 if clause.corner is Corner.ANY else inside == CORNERS.index(clause.corner)
        own = _both(own, np.where(inside == UNKNOWN, OPEN, fits).astype(np.int8))
    related = clause.center or clause.neighbor
    if related is None:
        return _any(own, axis=1)
    other = _judge_look(related, attributes)
    gaps = _gaps(geometry)
    if clause.center is not None:
        near = (np.abs(gaps - BESIDE_GAP) < 0.01).astype(np.int8)
    else:
        stay = _STAYING[attributes[..., _ACTION]]
        certain = (gaps < BESIDE) & (gaps > 0) & stay[:, :, None] & stay[:, None, :]
        near = np.where(certain, TRUE, np.where(gaps < NEAR, OPEN, FALSE)).astype(np.int8)
    near[:, np.arange(near.shape[1]), np.arange(near.shape[1])] = FALSE
    return _any(_any(_both(_both(own[:, :, None], other[:, None, :]), near), axis=2), axis=1)


def _judge_look(look: Look, attributes: NDArray[np.int8]) -> NDArray[np.int8]:
    """Truth for every actor, ``[B, actors]``."""
    truth = (attributes[..., _SHAPE] >= 0).astype(np.int8)
    properties: tuple[tuple[Enum | None, Sequence[Enum], int], ...] = (
        (look.color, COLORS, _COLOR),
        (look.shape, SHAPES, _SHAPE),
        (look.size, SIZES, _SIZE),
    )
    for value, kinds, column in properties:
        if value is not None:
            has = attributes[..., column]
            truth = _both(truth, np.where(has == UNKNOWN, OPEN, has == kinds.index(value)).astype(np.int8))
    return truth


def _judge_patches(look: Look, attributes: NDArray[np.int8], coverage: NDArray[np.float32]) -> NDArray[np.int8]:
    """Truth of a look in every patch, ``[B, patches]``."""
    own = _judge_look(look, attributes)[:, :, None]
    seen = np.where(coverage > _COVERED, TRUE, np.where(coverage > _TOUCHED, OPEN, FALSE)).astype(np.int8)
    return _any(_both(np.broadcast_to(own, seen.shape), seen), axis=1)


def cover(geometry: NDArray[np.float32], grid: int) -> NDArray[np.float32]:
    """Share of each patch that an actor's disc covers, ``[B, actors, patches]``, from 4 × 4 points."""
    points = (np.arange(grid * 4) + 0.5) / (grid * 4)
    x, y, radius = (geometry[..., index, None, None] for index in range(3))
    inside = (points[None, None, None, :] - x) ** 2 + (points[None, None, :, None] - y) ** 2 < radius**2
    shape = (*geometry.shape[:2], grid, 4, grid, 4)
    share: NDArray[np.floating] = inside.reshape(shape).mean(axis=(3, 5))
    return share.reshape(*geometry.shape[:2], grid * grid).astype(np.float32)


def find_owners(coverage: NDArray[np.float32]) -> NDArray[np.int8]:
    """The only actor that is visible in a patch, ``[B, patches]``; -1 for none or several."""
    alone = ((coverage > _COVERED).sum(axis=1) == 1) & ((coverage > _TOUCHED).sum(axis=1) == 1)
    return np.where(alone, coverage.argmax(axis=1), -1).astype(np.int8)


def _gaps(geometry: NDArray[np.float32]) -> NDArray[np.float32]:
    """Heights between the discs of all pairs, ``[B, actors, actors]``."""
    centers, radii = geometry[..., :2], geometry[..., 2]
    apart = np.linalg.norm(centers[:, :, None] - centers[:, None, :], axis=-1)
    return np.asarray(apart - radii[:, :, None] - radii[:, None, :])


def _both(one: NDArray[np.int8], other: NDArray[np.int8]) -> NDArray[np.int8]:
    """Three-valued and."""
    result = np.where((one == OPEN) | (other == OPEN), OPEN, TRUE)
    return np.where((one == FALSE) | (other == FALSE), FALSE, result).astype(np.int8)


def _any(values: NDArray[np.int8], axis: int) -> NDArray[np.int8]:
    """Three-valued or."""
    result = np.where((values == OPEN).any(axis=axis), OPEN, FALSE)
    return np.where((values == TRUE).any(axis=axis), TRUE, result).astype(np.int8)
