"""The words for what the world is made of: every thing in several ways."""

from __future__ import annotations

from dataclasses import dataclass

from r2tuning.synthetic.vocabulary import Action, Colour, Corner, Place, Shape, Size

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
