"""The vocabulary of Moving Shapes, and scripts: scenes, actors and acts before anything is drawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Literal


class Shape(Enum):
    """A name, and ``symmetry``: how many positions of a full turn look the same; 0 for round shapes."""

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


class Color(Enum):
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
        """Whether the actor's center stays where it is."""
        return self in (Action.REST, Action.GROW, Action.SHRINK, Action.SPIN, Action.BLINK)


class Corner(Enum):
    """The value is the corner in the unit square, x to the right and y down; ANY stands for all four."""

    TOP_LEFT = (0, 0)
    TOP_RIGHT = (1, 0)
    BOTTOM_LEFT = (0, 1)
    BOTTOM_RIGHT = (1, 1)
    ANY = (-1, -1)


class Place(Enum):
    """A name, and ``hides``: colors that are hard to see there, which no actor has in this place."""

    NIGHT = "night sky", (Color.BLACK, Color.PURPLE)
    GRASS = "grass", (Color.GREEN,)
    SEA = "sea", (Color.BLUE,)
    SNOW = "snow", (Color.WHITE,)
    BRICK = "brick wall", (Color.RED,)
    DESERT = "desert", (Color.ORANGE, Color.YELLOW)
    CLOUDS = "cloudy sky", (Color.WHITE, Color.BLUE)
    WOOD = "wooden floor", (Color.ORANGE,)
    CITY = "city at sunset", (Color.PINK, Color.PURPLE)
    FOREST = "forest", (Color.GREEN, Color.BLACK)

    def __init__(self, _: str, hides: tuple[Color, ...]) -> None:
        self.hides = hides


HELD_OUT_SHARE = 0.2
"""Share of the combinations of color, shape and action that only the test split shows."""


def is_held_out(color: Color, shape: Shape, action: Action) -> bool:
    """Whether only videos of the test split may show this combination; the same on every machine and for every seed.

    Example:
        >>> is_held_out(Color.RED, Shape.STAR, Action.FALL), is_held_out(Color.RED, Shape.STAR, Action.RISE)
        (False, False)
    """
    digest = hashlib.sha256(f"{color.name} {shape.name} {action.name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


WORLD_VERSION = 4
"""Raised whenever a seed gives a different video or different annotations."""

FPS = 10
WIDTH, HEIGHT = 256, 224

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Act:
    """One action of one actor.

    Attributes:
        action: The action.
        start: Seconds in the video.
        end: Seconds in the video, exclusive.
        origin: First position, in heights; of a circling actor, the center of the circle.
        target: Last position.
        radii: First and last radius.
        angle: First rotation, radians clockwise; of a circling actor, where on the circle it starts.
        period: Seconds of one turn, jump, blink or round; 0 for other actions.
        reach: Height of a jump, or radius of the circle; 0 for other actions.
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
    """A shape in a scene; its acts fill the scene, and ``center`` is the index of the actor that it circles, if any."""

    shape: Shape
    color: Color
    acts: tuple[Act, ...]
    center: int | None = None


@dataclass(frozen=True)
class Scene:
    """What is shown between two cuts, in seconds; ``texture`` is the seed of the background's details."""

    place: Place
    texture: int
    start: float
    end: float
    actors: tuple[Actor, ...]


@dataclass(frozen=True)
class Script:
    """A whole video: its name, what it was made from, and its scenes, from 0 to the duration without a gap."""

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
    """Index of the frame that is shown from ``time`` on; the time lies on the frame grid."""
    return round(time * FPS)
