"""What the world is made of: shapes, colours, sizes, actions, corners and places. The words for them are in phrases."""

from __future__ import annotations

import hashlib
from enum import Enum


class Shape(Enum):
    """A name, and ``symmetry``: in how many positions of one full turn it looks the same; 0 for round shapes."""

    CIRCLE = "circle", 0
    RING = "ring", 0
    SQUARE = "square", 4
    TRIANGLE = "triangle", 3
    STAR = "star", 5
    CROSS = "cross", 4
    HEART = "heart", 1
    MOON = "moon", 1
    FLOWER = "flower", 6
    BOLT = "bolt", 2

    def __init__(self, _: str, symmetry: int) -> None:
        self.symmetry = symmetry


class Colour(Enum):
    """The value is the fill as sRGB in [0, 255]."""

    RED = (222, 40, 46)
    ORANGE = (250, 138, 20)
    YELLOW = (252, 222, 50)
    GREEN = (36, 168, 70)
    BLUE = (36, 92, 228)
    PURPLE = (138, 52, 188)
    PINK = (252, 140, 196)
    WHITE = (248, 248, 248)
    BLACK = (24, 24, 28)


class Size(Enum):
    """The value is the radius, as a share of the picture's height."""

    TINY = 0.075
    MEDIUM = 0.125
    LARGE = 0.19


class Action(Enum):
    """What an actor does for a while."""

    REST = "rest"
    MOVE_LEFT = "move left"
    MOVE_RIGHT = "move right"
    FALL = "fall"
    RISE = "rise"
    GROW = "grow"
    SHRINK = "shrink"
    SPIN = "spin"
    BOUNCE = "bounce"
    BLINK = "blink"
    CIRCLE = "circle"

    @property
    def stays(self) -> bool:
        """Whether the actor's centre stays where it is."""
        return self in (Action.REST, Action.GROW, Action.SHRINK, Action.SPIN, Action.BLINK)


class Corner(Enum):
    """The value is the corner in the unit square, x to the right and y down; ANY stands for all four."""

    TOP_LEFT = (0, 0)
    TOP_RIGHT = (1, 0)
    BOTTOM_LEFT = (0, 1)
    BOTTOM_RIGHT = (1, 1)
    ANY = (-1, -1)


class Place(Enum):
    """A name, and ``hides``: colours that would be hard to see there, so that no actor in this place has them."""

    NIGHT = "night sky", (Colour.BLACK, Colour.PURPLE)
    GRASS = "grass", (Colour.GREEN,)
    SEA = "sea", (Colour.BLUE,)
    SNOW = "snow", (Colour.WHITE,)
    BRICK = "brick wall", (Colour.RED,)
    DESERT = "desert", (Colour.ORANGE, Colour.YELLOW)
    CLOUDS = "cloudy sky", (Colour.WHITE, Colour.BLUE)
    WOOD = "wooden floor", (Colour.ORANGE,)
    CITY = "city at sunset", (Colour.PINK, Colour.PURPLE)
    FOREST = "forest", (Colour.GREEN, Colour.BLACK)

    def __init__(self, _: str, hides: tuple[Colour, ...]) -> None:
        self.hides = hides


HELD_OUT_SHARE = 0.2
"""Share of the combinations of colour, shape and action that only the test split has."""


def is_held_out(colour: Colour, shape: Shape, action: Action) -> bool:
    """Whether only videos of the test split may hold this combination.

    It depends on the names alone, so it is the same on every machine and for every seed.

    Example:
        >>> is_held_out(Colour.RED, Shape.STAR, Action.FALL), is_held_out(Colour.RED, Shape.STAR, Action.RISE)
        (False, False)
    """
    digest = hashlib.sha256(f"{colour.name} {shape.name} {action.name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32
