"""Queries in English: words, and sentences made of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from r2tuning.synthetic.scenes import Action, Colour, Corner, Place, Shape, Size
from r2tuning.synthetic.semantics import Clause, Look, Meaning

COLOURS: dict[Colour, tuple[str, ...]] = {
    Colour.RED: ("red", "red", "bright red"),
    Colour.ORANGE: ("orange",),
    Colour.YELLOW: ("yellow", "yellow", "bright yellow"),
    Colour.GREEN: ("green",),
    Colour.BLUE: ("blue",),
    Colour.PURPLE: ("purple", "violet"),
    Colour.PINK: ("pink",),
    Colour.WHITE: ("white",),
    Colour.BLACK: ("black",),
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


ACTIONS: dict[Action, tuple[Verb, ...]] = {
    Action.REST: (
        Verb("stays still", "staying still"),
        Verb("rests", "resting"),
        Verb("does not move at all", "that does not move at all"),
        Verb("stays where it is", "staying where it is"),
    ),
    Action.MOVE_LEFT: (
        Verb("moves left", "moving left"),
        Verb("moves to the left", "moving to the left"),
        Verb("glides to the left", "gliding to the left"),
        Verb("travels from right to left", "travelling from right to left"),
    ),
    Action.MOVE_RIGHT: (
        Verb("moves right", "moving right"),
        Verb("moves to the right", "moving to the right"),
        Verb("glides to the right", "gliding to the right"),
        Verb("travels from left to right", "travelling from left to right"),
    ),
    Action.FALL: (
        Verb("falls", "falling"),
        Verb("sinks", "sinking"),
        Verb("moves down", "moving down"),
        Verb("slowly falls down", "slowly falling down"),
    ),
    Action.RISE: (
        Verb("rises", "rising"),
        Verb("climbs", "climbing"),
        Verb("moves up", "moving up"),
        Verb("slowly floats upwards", "slowly floating upwards"),
    ),
    Action.GROW: (
        Verb("grows", "growing"),
        Verb("gets bigger", "getting bigger"),
        Verb("grows larger and larger", "growing larger and larger"),
    ),
    Action.SHRINK: (
        Verb("shrinks", "shrinking"),
        Verb("gets smaller", "getting smaller"),
        Verb("becomes smaller and smaller", "becoming smaller and smaller"),
    ),
    Action.SPIN: (
        Verb("spins", "spinning"),
        Verb("rotates", "rotating"),
        Verb("turns around itself", "turning around itself"),
        Verb("spins on the spot", "spinning on the spot"),
    ),
    Action.BOUNCE: (
        Verb("bounces", "bouncing"),
        Verb("jumps up and down", "jumping up and down"),
        Verb("hops", "hopping"),
        Verb("bounces up and down", "bouncing up and down"),
    ),
    Action.BLINK: (
        Verb("blinks", "blinking"),
        Verb("flashes", "flashing"),
        Verb("flashes on and off", "flashing on and off"),
        Verb("keeps appearing and disappearing", "that keeps appearing and disappearing"),
    ),
    Action.CIRCLE: (
        Verb("circles", "circling"),
        Verb("orbits", "orbiting"),
        Verb("goes around", "going around"),
        Verb("travels in circles around", "travelling in circles around"),
    ),
}

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
    """Ways to name a place.

    Attributes:
        noun: What is behind everything.
        setting: Where something happens.
        whole: A query that asks for nothing else.
        plural: Whether the noun takes "are".
    """

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
        >>> from r2tuning.synthetic.scenes import Action, Colour, Shape
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
