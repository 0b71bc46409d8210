"""What a video of Moving Shapes is before it is drawn: the world's vocabulary, scenes, actors and acts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Literal


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


WORLD_VERSION = 4
"""Raised whenever the same seed would give another video or other annotations."""

FPS = 10
WIDTH, HEIGHT = 256, 224

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Act:
    """One action of one actor.

    Attributes:
        action: What it does.
        start: Seconds from the beginning of the video.
        end: Seconds; the act is over then.
        origin: Where it is at first; of a circling actor, the centre of the circle.
        target: Where it is at last; the same for actions that do not lead anywhere.
        radii: Its radius at first and at last.
        angle: Radians clockwise by which it is turned at first; of a circling actor, where on the circle it begins.
        period: Seconds of one turn, jump, blink or round; 0 for other actions.
        reach: Height of a jump, or radius of the circle it travels on; 0 for other actions.
    """

    action: Action
    start: float
    end: float
    origin: tuple[float, float]
    target: tuple[float, float]
    radii: tuple[float, float]
    angle: float = 0.0
    period: float = 0.0
    reach: float = 0.0


@dataclass(frozen=True)
class Actor:
    """An object in a scene.

    Attributes:
        shape: Its shape.
        colour: Its colour.
        acts: What it does, without a gap from the beginning of the scene to its end.
        centre: Index in the scene of the actor that it circles; None where it circles none.
    """

    shape: Shape
    colour: Colour
    acts: tuple[Act, ...]
    centre: int | None = None


@dataclass(frozen=True)
class Scene:
    """What is shown between two cuts.

    Attributes:
        place: The background.
        texture: Seed of the background's details.
        start: Seconds.
        end: Seconds.
        actors: Everyone in it; the smaller is in front of the larger.
    """

    place: Place
    texture: int
    start: float
    end: float
    actors: tuple[Actor, ...]


@dataclass(frozen=True)
class Script:
    """A whole video.

    Attributes:
        vid: Its name, unique over splits and seeds.
        split: The split it belongs to.
        seed: With the split, all that it depends on.
        scenes: Without a gap, from 0 to the duration.
    """

    vid: str
    split: Split
    seed: int
    scenes: tuple[Scene, ...]

    @property
    def duration(self) -> float:
        """Seconds, a multiple of 2."""
        return self.scenes[-1].end

    @property
    def frames(self) -> int:
        """Number of frames of the video file."""
        return to_frame(self.duration)


def to_frame(time: float) -> int:
    """Index of the frame that is shown from ``time`` on, of a time on the frame grid.

    Example:
        >>> to_frame(12.3)
        123
    """
    return round(time * FPS)
