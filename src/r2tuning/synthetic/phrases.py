"""Says a meaning in English, each time in other words."""

from __future__ import annotations

from random import Random

from r2tuning.synthetic.meaning import Clause, Look, Meaning
from r2tuning.synthetic.words import (
    ACTIONS,
    ANY_SHAPE,
    BESIDE,
    COLOURS,
    CORNERS,
    PLACES,
    SHAPES,
    SIZES,
)

FEWEST_WORDS, MOST_WORDS = 2, 45

# Before a thing, as in "show me a red star falling".
_BEFORE_NOUN = ("", "", "", "", "show me ", "find ", "I am looking for ", "video of ")
# Before something that happens, as in "the moment when a red star falls".
_BEFORE_EVENT = (
    "",
    "",
    "",
    "",
    "the moment when ",
    "the part where ",
    "find the part of the video where ",
    "show me when ",
    "can you show me the moment in the video in which ",
    "I would like to see the part of this video during which ",
)
_MEANWHILE = (" while ", " while ", " as ", " and at the same time ", " while, at the same time, ")
_BEHIND = (
    "{} in the background",
    "a scene in front of {}",
    "everything that happens in front of {}",
    "{} behind it all",
)


def phrase(chance: Random, meaning: Meaning) -> str:
    """A sentence, or part of one, that says the meaning.

    Args:
        chance: Of the words.
        meaning: With a place or a clause.

    Returns:
        Between 2 and 45 words.

    Example:
        >>> from r2tuning.synthetic.vocabulary import Action, Colour, Shape
        >>> phrase(Random(3), Meaning(clauses=(Clause(Look(Colour.RED, Shape.STAR), Action.FALL),)))
        'a red five-pointed star moving down'
    """
    while True:
        text = _compose(chance, meaning)
        if FEWEST_WORDS <= len(text.split()) <= MOST_WORDS:
            # Some people write whole sentences, some do not.
            return text[0].upper() + text[1:] + "." if chance.random() < 0.3 else text


def _compose(chance: Random, meaning: Meaning) -> str:
    if not meaning.clauses:
        return _say_place(chance, meaning)
    if len(meaning.clauses) == 1 and chance.random() < 0.45:
        text = chance.choice(_BEFORE_NOUN) + _say_thing(chance, meaning.clauses[0])
    else:
        opening, *others = (_say_event(chance, clause) for clause in meaning.clauses)
        text = chance.choice(_BEFORE_EVENT) + opening + "".join(chance.choice(_MEANWHILE) + other for other in others)
    if meaning.place is None:
        return text
    words = PLACES[meaning.place]
    several = len(meaning.clauses) > 1 or any(c.centre or c.neighbour for c in meaning.clauses)
    ending = f"while {words.noun} {'are' if words.plural else 'is'} behind {'them' if several else 'it'}"
    ways = (
        f"{text} {chance.choice(words.setting)}",
        f"{text} {ending}",
        f"{text}, with {words.noun} in the background",
    )
    return chance.choice((ways[0], *ways))


def _say_place(chance: Random, meaning: Meaning) -> str:
    assert meaning.place is not None  # a meaning without clauses and place says nothing
    words = PLACES[meaning.place]
    if chance.random() < 0.5:
        return chance.choice(_BEFORE_NOUN) + chance.choice(words.whole)
    return chance.choice(_BEHIND).format(words.noun)


def _say_event(chance: Random, clause: Clause) -> str:
    """As in "a red star falls in the top left corner"."""
    subject = say_look(chance, clause.subject)
    where = _say_where(chance, clause)
    if clause.action is None:
        there = "there is" if chance.random() < 0.5 or not where else ""
        return f"there is {subject}{where}" if there else f"{subject} is{where}"
    return f"{subject} {chance.choice(ACTIONS[clause.action]).finite}{_say_centre(chance, clause)}{where}"


def _say_thing(chance: Random, clause: Clause) -> str:
    """As in "a red star falling in the top left corner"."""
    where = _say_where(chance, clause)
    if clause.action is None:
        return say_look(chance, clause.subject) + where
    verb, centre = chance.choice(ACTIONS[clause.action]), _say_centre(chance, clause)
    if chance.random() < 0.3:
        return f"{say_look(chance, clause.subject, article='the')} that {verb.finite}{centre}{where}"
    return f"{say_look(chance, clause.subject)} {verb.participle}{centre}{where}"


def _say_centre(chance: Random, clause: Clause) -> str:
    return "" if clause.centre is None else " " + say_look(chance, clause.centre, article=chance.choice(("a", "the")))


def _say_where(chance: Random, clause: Clause) -> str:
    parts = []
    if clause.corner is not None:
        parts.append(chance.choice(CORNERS[clause.corner]))
    if clause.neighbour is not None:
        parts.append(f"{chance.choice(BESIDE)} {say_look(chance, clause.neighbour)}")
    return "".join(" " + part for part in parts)


def say_look(chance: Random, look: Look, article: str = "a") -> str:
    """As in "a tiny red star"; "something red" where only the colour is known.

    Example:
        >>> say_look(Random(0), Look(), article="the")
        'the object'
    """
    if (
        look.shape is None
        and look.size is None
        and look.colour is not None
        and article == "a"
        and chance.random() < 0.5
    ):
        return f"something {chance.choice(COLOURS[look.colour])}"
    words = []
    if look.size is not None:
        words.append(chance.choice(SIZES[look.size]))
    if look.colour is not None:
        words.append(chance.choice(COLOURS[look.colour]))
    words.append(chance.choice(ANY_SHAPE if look.shape is None else SHAPES[look.shape]))
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join((article, *words))
