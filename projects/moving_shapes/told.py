"""The facts that each word of a sentence tells: which actor it means, its look, its action, and where.

The words of `r2tuning.synthetic.language` are known, so that sentences are read from left to right, like the text tower
does. A look is known at its last word ("a tiny red *star*"); so are an action, a corner and a place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from projects.moving_shapes.frames import ACTIONS, COLORS, PLACES, SHAPES, SIZES
from r2tuning.synthetic import language as words
from r2tuning.synthetic.scenes import Action, Color, Corner, Place, Shape, Size

LOOKS: tuple[Enum, ...] = (*COLORS, *SHAPES, *SIZES)
CORNERS = tuple(Corner)


class Role(Enum):
    """The role of an actor in its sentence."""

    SUBJECT = 0
    RELATED = 1  # next to the subject, or circled by it
    OTHER = 2  # subject of a later clause


FACTS: tuple[tuple[str, Enum], ...] = (
    *(("look of the subject", look) for look in LOOKS),
    *(("look of another", look) for look in LOOKS),
    *(("role", role) for role in Role),
    *(("action of the subject", action) for action in ACTIONS),
    *(("action of another", action) for action in ACTIONS),
    *(("corner", corner) for corner in CORNERS),
    *(("place", place) for place in PLACES),
)
"""What a word can tell."""

_NUMBER = {fact: number for number, fact in enumerate(FACTS)}


class _Mark(Enum):
    """Words that tell no fact, but about which actor the next words are."""

    ANY_SHAPE = "any shape"
    SOMETHING = "something"
    BESIDE = "beside"
    MEANWHILE = "meanwhile"


def facts_of(topic: str) -> range:
    """Numbers of the facts of a topic, such as ``role``."""
    numbers = [number for (name, _), number in _NUMBER.items() if name == topic]
    return range(numbers[0], numbers[-1] + 1)


def _collect_words() -> dict[str, Enum]:
    said: dict[str, Enum] = {"something": _Mark.SOMETHING}
    plain: Sequence[tuple[Enum, Iterable[str]]] = (
        *words.COLORS.items(),
        *words.SHAPES.items(),
        *words.SIZES.items(),
        *words.CORNERS.items(),
        (_Mark.ANY_SHAPE, words.ANY_SHAPE),
        (_Mark.BESIDE, words.BESIDE),
        (_Mark.MEANWHILE, ("while", "as", "at the same time")),
        *(
            (action, [way for verb in verbs for way in (verb.finite, verb.participle)])
            for action, verbs in words.ACTIONS.items()
        ),
        *((place, (ways.noun, *ways.setting, *ways.whole)) for place, ways in words.PLACES.items()),
    )
    for what, ways in plain:
        said.update(dict.fromkeys(ways, what))
    return said


_SAID = _collect_words()
_WORDS = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(_SAID, key=len, reverse=True))) + r")\b")


def read(text: str) -> list[tuple[int, tuple[int, ...]]]:
    """The ends of telling words in a sentence, and the numbers of the `FACTS` that they tell.

    Example:
        >>> text = "a red star falls"
        >>> [(text[:end], [FACTS[fact][1].name for fact in facts]) for end, facts in read(text)]
        [('a red star', ['RED', 'STAR', 'SUBJECT']), ('a red star falls', ['FALL'])]
    """
    told: list[tuple[int, tuple[int, ...]]] = []
    look: list[Enum] = []
    role, role_next = Role.SUBJECT, Role.SUBJECT
    unnamed = False  # "something red" has no noun
    for found in _WORDS.finditer(text.lower()):
        what, end = _SAID[found[0]], found.end()
        if what is _Mark.SOMETHING:
            unnamed = True
        elif what is _Mark.BESIDE:
            role_next = Role.RELATED
        elif what is _Mark.MEANWHILE:
            role_next = Role.OTHER
        elif isinstance(what, (Color, Shape, Size)) or what is _Mark.ANY_SHAPE:
            look += [] if what is _Mark.ANY_SHAPE else [what]
            if unnamed or isinstance(what, Shape) or what is _Mark.ANY_SHAPE:
                role = role_next
                whose = "look of the subject" if role is Role.SUBJECT else "look of another"
                told.append((end, (*(_NUMBER[whose, one] for one in look), _NUMBER["role", role])))
                look, unnamed = [], False
        elif isinstance(what, Action):
            whose = "action of the subject" if role is Role.SUBJECT else "action of another"
            told.append((end, (_NUMBER[whose, what],)))
            if what is Action.CIRCLE:
                role_next = Role.RELATED
        elif isinstance(what, (Corner, Place)):
            told.append((end, (_NUMBER["corner" if isinstance(what, Corner) else "place", what],)))
    return told


def tell_tokens(text: str, ends: Sequence[int]) -> NDArray[np.bool_]:
    """The facts that each token of a sentence tells, ``[tokens, facts]``; ``ends`` is 0 for special tokens."""
    facts = np.zeros((len(ends), len(FACTS)), dtype=bool)
    at = {end: index for index, end in enumerate(ends) if end}
    for end, numbers in read(text):
        # A truncated text has no such token.
        if end in at:
            facts[at[end], list(numbers)] = True
    return facts
