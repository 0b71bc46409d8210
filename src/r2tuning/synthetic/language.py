"""Queries in English: words, and sentences made of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from r2tuning.synthetic.scenes import Action, Color, Corner, Place, Shape, Size
from r2tuning.synthetic.semantics import Clause, Look, Meaning

COLORS: dict[Color, tuple[str, ...]] = {
    Color.RED: ("red", "red", "bright red"),
    Color.ORANGE: ("orange",),
    Color.YELLOW: ("yellow", "yellow", "bright yellow"),
    Color.GREEN: ("green",),
    Color.BLUE: ("blue",),
    Color.PURPLE: ("purple", "violet"),
    Color.PINK: ("pink",),
    Color.WHITE: ("white",),
    Color.BLACK: ("black",),
}

SHAPES: dict[Shape, tuple[str, ...]] = {
    Shape.CIRCLE: ("circle", "disc", "round disc"),
    Shape.RING: ("ring", "ring", "hoop"),
    Shape.SQUARE: ("square", "square", "box"),
    Shape.TRIANGLE: ("triangle",),
    Shape.STAR: ("star", "star", "five-pointed star"),
    Shape.CROSS: ("cross", "cross", "plus sign"),
    Shape.HEART: ("heart",),
    Shape.MOON: ("moon", "crescent", "crescent moon"),
    Shape.FLOWER: ("flower", "flower", "blossom"),
    Shape.BOLT: ("bolt", "lightning bolt", "flash of lightning"),
}
ANY_SHAPE = ("shape", "object", "thing")

SIZES: dict[Size, tuple[str, ...]] = {
    Size.TINY: ("tiny", "tiny", "very small", "little"),
    Size.MEDIUM: ("medium-sized", "middle-sized"),
    Size.LARGE: ("large", "large", "big", "huge"),
}


@dataclass(frozen=True)
class Verb:
    """One way to say what an actor does: as in "it …" and as in "something …"."""

    finite: str
    participle: str


def _read_verb(text: str) -> Verb:
    """Both forms of "slowly falls/falling down"; without a participle, it is a clause with "that"."""
    if "/" not in text:
        return Verb(text, f"that {text}")
    return Verb(re.sub("/[a-z]+", "", text), re.sub("[a-z]+/", "", text))


_VERBS: dict[Action, tuple[str, ...]] = {
    Action.REST: ("stays/staying still", "rests/resting", "does not move at all", "stays/staying where it is"),
    Action.MOVE_LEFT: (
        "moves/moving left",
        "moves/moving to the left",
        "glides/gliding to the left",
        "travels/travelling from right to left",
    ),
    Action.MOVE_RIGHT: (
        "moves/moving right",
        "moves/moving to the right",
        "glides/gliding to the right",
        "travels/travelling from left to right",
    ),
    Action.FALL: ("falls/falling", "sinks/sinking", "moves/moving down", "slowly falls/falling down"),
    Action.RISE: ("rises/rising", "climbs/climbing", "moves/moving up", "slowly floats/floating upwards"),
    Action.GROW: ("grows/growing", "gets/getting bigger", "grows/growing larger and larger"),
    Action.SHRINK: ("shrinks/shrinking", "gets/getting smaller", "becomes/becoming smaller and smaller"),
    Action.SPIN: ("spins/spinning", "rotates/rotating", "turns/turning around itself", "spins/spinning on the spot"),
    Action.BOUNCE: ("bounces/bouncing", "jumps/jumping up and down", "hops/hopping", "bounces/bouncing up and down"),
    Action.BLINK: (
        "blinks/blinking",
        "flashes/flashing",
        "flashes/flashing on and off",
        "keeps appearing and disappearing",
    ),
    Action.CIRCLE: ("circles/circling", "orbits/orbiting", "goes/going around", "travels/travelling in circles around"),
}
ACTIONS = {action: tuple(map(_read_verb, ways)) for action, ways in _VERBS.items()}

CORNERS: dict[Corner, tuple[str, ...]] = {
    Corner.TOP_LEFT: ("in the top left corner", "in the upper left corner", "at the top left"),
    Corner.TOP_RIGHT: ("in the top right corner", "in the upper right corner", "at the top right"),
    Corner.BOTTOM_LEFT: ("in the bottom left corner", "in the lower left corner", "at the bottom left"),
    Corner.BOTTOM_RIGHT: ("in the bottom right corner", "in the lower right corner", "at the bottom right"),
    Corner.ANY: ("in a corner", "in one of the corners", "in a corner of the picture"),
}

BESIDE = ("next to", "beside", "right beside", "side by side with")


@dataclass(frozen=True)
class PlaceWords:
    """Ways to name a place: behind something, as where something happens, and as a whole query."""

    noun: str
    setting: tuple[str, ...]
    whole: tuple[str, ...]
    plural: bool = False


PLACES: dict[Place, PlaceWords] = {
    Place.NIGHT: PlaceWords(
        "the night sky", ("at night", "under the stars", "in the night sky"), ("a starry night", "the night sky")
    ),
    Place.GRASS: PlaceWords(
        "the green grass", ("on the grass", "in the meadow", "on a lawn"), ("a green meadow", "a field of grass")
    ),
    Place.SEA: PlaceWords("the sea", ("at sea", "in the water", "on the sea"), ("the sea", "waves on the water")),
    Place.SNOW: PlaceWords(
        "the snow", ("in the snow", "in a snowy landscape"), ("a snowy scene", "a landscape covered in snow")
    ),
    Place.BRICK: PlaceWords(
        "the brick wall", ("on a brick wall", "in front of the bricks"), ("a brick wall", "a wall made of red bricks")
    ),
    Place.DESERT: PlaceWords(
        "the desert", ("in the desert", "over the sand dunes"), ("the desert", "a desert with sand dunes")
    ),
    Place.CLOUDS: PlaceWords(
        "the cloudy sky", ("among the clouds", "in a cloudy sky"), ("a cloudy sky", "clouds in a blue sky")
    ),
    Place.WOOD: PlaceWords(
        "the wooden boards",
        ("on the wooden floor", "on wooden boards"),
        ("a wooden floor", "wooden boards"),
        plural=True,
    ),
    Place.CITY: PlaceWords(
        "the city at sunset", ("in the city", "above the city", "over the skyline"), ("a city at sunset", "the skyline")
    ),
    Place.FOREST: PlaceWords(
        "the forest", ("in the forest", "among the trees", "in the woods"), ("a forest", "a forest of fir trees")
    ),
}


FEWEST_WORDS, MOST_WORDS = 2, 45

# Before a thing, as in "show me a red star falling", and before an event, as in "the moment when a red star falls".
_BEFORE_NOUN = *[""] * 4, "show me ", "find ", "I am looking for ", "video of "
_BEFORE_EVENT = (
    *[""] * 4,
    "the moment when ",
    "the part where ",
    "find the part of the video where ",
    "show me when ",
    "can you show me the moment in the video in which ",
    "I would like to see the part of this video during which ",
)
_MEANWHILE = (" while ", " while ", " as ", " and at the same time ", " while, at the same time, ")
_BEHIND = "{} in the background", "a scene in front of {}", "everything that happens in front of {}", "{} behind it all"


def phrase(chance: Random, meaning: Meaning) -> str:
    """A sentence or phrase of 2 to 45 words that says the meaning.

    Example:
        >>> from r2tuning.synthetic.scenes import Action, Color, Shape
        >>> phrase(Random(3), Meaning(clauses=(Clause(Look(Color.RED, Shape.STAR), Action.FALL),)))
        'a red five-pointed star moving down'
    """
    while True:
        text = _compose(chance, meaning)
        if FEWEST_WORDS <= len(text.split()) <= MOST_WORDS:
            # Some people write whole sentences.
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
    several = len(meaning.clauses) > 1 or any(c.center or c.neighbor for c in meaning.clauses)
    ending = f"while {words.noun} {'are' if words.plural else 'is'} behind {'them' if several else 'it'}"
    setting = f" {chance.choice(words.setting)}"
    return text + chance.choice((setting, setting, f" {ending}", f", with {words.noun} in the background"))


def _say_place(chance: Random, meaning: Meaning) -> str:
    assert meaning.place is not None  # there are no clauses
    words = PLACES[meaning.place]
    if chance.random() < 0.5:
        return chance.choice(_BEFORE_NOUN) + chance.choice(words.whole)
    return chance.choice(_BEHIND).format(words.noun)


def _say_event(chance: Random, clause: Clause) -> str:
    """As in "a red star falls in the top left corner"."""
    subject = say_look(chance, clause.subject)
    where = _say_where(chance, clause)
    if clause.action is None:
        return f"there is {subject}{where}" if chance.random() < 0.5 or not where else f"{subject} is{where}"
    return f"{subject} {chance.choice(ACTIONS[clause.action]).finite}{_say_center(chance, clause)}{where}"


def _say_thing(chance: Random, clause: Clause) -> str:
    """As in "a red star falling in the top left corner"."""
    where = _say_where(chance, clause)
    if clause.action is None:
        return say_look(chance, clause.subject) + where
    verb, center = chance.choice(ACTIONS[clause.action]), _say_center(chance, clause)
    if chance.random() < 0.3:
        return f"{say_look(chance, clause.subject, article='the')} that {verb.finite}{center}{where}"
    return f"{say_look(chance, clause.subject)} {verb.participle}{center}{where}"


def _say_center(chance: Random, clause: Clause) -> str:
    return "" if clause.center is None else " " + say_look(chance, clause.center, article=chance.choice(("a", "the")))


def _say_where(chance: Random, clause: Clause) -> str:
    corner = "" if clause.corner is None else " " + chance.choice(CORNERS[clause.corner])
    if clause.neighbor is None:
        return corner
    return f"{corner} {chance.choice(BESIDE)} {say_look(chance, clause.neighbor)}"


def say_look(chance: Random, look: Look, article: str = "a") -> str:
    """As in "a tiny red star"; at times "something red" where only the color is known."""
    if look.shape is None and look.size is None and look.color is not None and article == "a" and chance.random() < 0.5:
        return f"something {chance.choice(COLORS[look.color])}"
    words = []
    if look.size is not None:
        words.append(chance.choice(SIZES[look.size]))
    if look.color is not None:
        words.append(chance.choice(COLORS[look.color]))
    words.append(chance.choice(ANY_SHAPE if look.shape is None else SHAPES[look.shape]))
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join((article, *words))
