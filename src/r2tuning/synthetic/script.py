"""A video before it is drawn: which scenes follow each other, who is in them, and who does what and when.

Lengths are shares of the picture's height. The point (0, 0) is the top left of the centred square in which everything
happens, so that a square crop loses only background; x grows to the right, y grows down. Times are seconds, whole
multiples of ``1 / FPS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from r2tuning.synthetic.vocabulary import Action, Colour, Place, Shape

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
