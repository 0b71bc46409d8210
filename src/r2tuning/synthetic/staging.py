"""Makes scripts. The actors of a video share few colors, shapes and actions, which makes the video hard.

A video with a falling red star also shows red rings, other stars, other things that fall, and that star at rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from random import Random

from r2tuning.synthetic.actions import (
    BESIDE_GAP,
    MARGIN,
    SHORTEST_ACT,
    choose_parts,
    divide_time,
    fits_shape,
    fits_size,
    play,
    play_circling,
    pose_through,
    visible_shares,
)
from r2tuning.synthetic.scenes import (
    WORLD_VERSION,
    Action,
    Actor,
    Color,
    Place,
    Scene,
    Script,
    Shape,
    Size,
    Split,
    is_held_out,
)

SHORTEST_SCENE, LONGEST_SCENE = 18.0, 45.0  # seconds
LOWEST_VISIBLE, MEAN_VISIBLE = 0.45, 0.9  # least visible share of an actor: in every frame, and on average
_TRIES = 40
_UNSEEN = 0.6  # how often an actor of the test split shows a combination that training lacks
_STILL = (Action.REST, Action.SPIN, Action.BLINK)
_LIVELY = tuple(action for action in Action if action not in (*_STILL, Action.CIRCLE))


@dataclass(frozen=True)
class _Cast:
    """What the actors of a video are drawn from."""

    split: Split
    colors: tuple[Color, ...]
    shapes: tuple[Shape, ...]
    actions: tuple[Action, ...]

    def allows(self, color: Color, shape: Shape, action: Action) -> bool:
        """Whether the combination is possible, and this split may show it."""
        return fits_shape(action, shape) and (self.split == "test" or not is_held_out(color, shape, action))

    @property
    def held_out(self) -> int:
        """Number of combinations that training lacks."""
        combinations = product(self.colors, self.shapes, self.actions)
        return sum(
            fits_shape(action, shape) and is_held_out(color, shape, action) for color, shape, action in combinations
        )


def make_video(seed: int, split: Split) -> Script:
    """Invents a video.

    Args:
        seed: The same seed gives unrelated videos in two splits.
        split: ``train`` and ``val`` lack the combinations that `is_held_out` names.

    Example:
        >>> script = make_video(7, "train")
        >>> script.vid, script == make_video(7, "train"), 36 <= script.duration <= 150
        ('train-0000007', True, True)
    """
    chance = Random(f"moving shapes {WORLD_VERSION} {split} {seed}")  # the same on every platform, unlike a hash
    cuts = _choose_cuts(chance, float(chance.randrange(36, 151, 2)))
    places = _choose_places(chance, len(cuts) - 1)
    cast = _choose_cast(chance, split)
    scenes = [_stage_scene(chance, cast, place, *span) for place, span in zip(places, pairwise(cuts), strict=True)]
    return Script(f"{split}-{seed:07d}", split, seed, tuple(scenes))


def _choose_cuts(chance: Random, duration: float) -> list[float]:
    count = max(2, round(duration / chance.uniform(22, 32)))
    while True:
        cuts = divide_time(chance, 0.0, duration, count, SHORTEST_SCENE)
        if max(end - start for start, end in pairwise(cuts)) <= LONGEST_SCENE:
            return cuts


def _choose_places(chance: Random, count: int) -> list[Place]:
    """Few places, so that they recur, none twice in a row."""
    choice = chance.sample(list(Place), min(len(Place), max(2, (count + 1) // 2)))
    places: list[Place] = []
    for _ in range(count):
        places.append(chance.choice([place for place in choice if places[-1:] != [place]]))
    return places


def _choose_cast(chance: Random, split: Split) -> _Cast:
    while True:
        cast = _Cast(
            split,
            tuple(chance.sample(list(Color), 3)),
            tuple(chance.sample(list(Shape), 3)),
            # Still actions fit everywhere and are drawn less often; circling needs two actors and is drawn more often.
            (*chance.sample(_LIVELY, 3), chance.choice(_STILL), *([Action.CIRCLE] if chance.random() < 0.4 else [])),
        )
        if split != "test" or cast.held_out >= 4:
            return cast


def _stage_scene(chance: Random, cast: _Cast, place: Place, start: float, end: float) -> Scene:
    """Adds actors, singly or in pairs, until there are enough or no room is left."""
    # One color is added where the place would hide all but one of the cast's.
    colors = [color for color in cast.colors if color not in place.hides]
    if len(colors) < 2:
        colors.append(chance.choice([c for c in Color if c not in (*place.hides, *colors)]))
    stage = _Stage(chance, cast, tuple(colors), start, end)
    wanted = chance.choice((2, 2, 3, 3))
    if Action.CIRCLE in cast.actions and chance.random() < 0.5:
        stage.add_circling()
    elif chance.random() < 0.25:
        stage.add_beside()
    for _ in range(_TRIES):
        if len(stage.actors) >= wanted:
            break
        stage.add_single()
    return Scene(place, chance.randrange(2**31), start, end, tuple(stage.actors))


class _Stage:
    """A scene that is being filled; actors that do not fit are left out."""

    def __init__(self, chance: Random, cast: _Cast, colors: tuple[Color, ...], start: float, end: float) -> None:
        self.actors: list[Actor] = []
        self._chance, self._cast, self._colors = chance, cast, colors
        self._start, self._end = start, end
        self._looks: set[tuple[Color, Shape, Size]] = set()

    def add_single(self) -> None:
        """An actor on its own, at times in a corner."""
        chance = self._chance
        cornered = chance.random() < 0.2
        size = chance.choice((Size.TINY, Size.TINY, Size.MEDIUM) if cornered else tuple(Size))
        parts = choose_parts(chance, self._end - self._start)
        times = divide_time(chance, self._start, self._end, parts, SHORTEST_ACT)
        casting = self._choose_look(size, parts, stays=cornered)
        if casting is None:
            return
        color, shape, actions = casting
        for _ in range(_TRIES):
            start = self._choose_corner(size) if cornered else self._choose_spot(size)
            acts = play(chance, actions, times, start, size, shape)
            if acts is not None and self._add([(Actor(shape, color, acts), size)]):
                return

    def add_circling(self) -> None:
        """An actor that circles another, for the whole scene or a part of it."""
        chance = self._chance
        hub_size = chance.choice((Size.MEDIUM, Size.LARGE))
        size = Size.TINY if hub_size is Size.LARGE else chance.choice((Size.TINY, Size.MEDIUM))
        length = self._end - self._start
        parts = chance.randint(1, 2) if length >= 2 * SHORTEST_ACT else 1
        times = divide_time(chance, self._start, self._end, parts, SHORTEST_ACT)
        hub = self._choose_look(hub_size, 1, stays=True, same_size=True)
        casting = self._choose_look(size, parts, circles=True)
        if hub is None or casting is None or (hub[:2] == casting[:2]):
            return
        reach = hub_size.value + size.value + BESIDE_GAP
        widest = reach + size.value + MARGIN
        for _ in range(_TRIES):
            center = (chance.uniform(widest, 1 - widest), chance.uniform(widest, 1 - widest))
            hub_acts = play(chance, hub[2], (self._start, self._end), center, hub_size, hub[1])
            acts = play_circling(chance, times, center, reach, size.value, casting[2][0] is Action.REST)
            if hub_acts is None:
                continue
            circling = Actor(casting[1], casting[0], acts, center=len(self.actors))
            if self._add([(Actor(hub[1], hub[0], hub_acts), hub_size), (circling, size)]):
                return

    def add_beside(self) -> None:
        """Two actors next to each other."""
        chance = self._chance
        sizes = (chance.choice(tuple(Size)), chance.choice((Size.TINY, Size.MEDIUM)))
        castings = [self._choose_look(size, 1, stays=True, same_size=True) for size in sizes]
        for _ in range(_TRIES):
            left = self._choose_spot(sizes[0])
            right = (left[0] + sizes[0].value + sizes[1].value + BESIDE_GAP, left[1])
            pair: list[tuple[Actor, Size]] = []
            for casting, spot, size in zip(castings, (left, right), sizes, strict=True):
                if casting is None:
                    return
                acts = play(chance, casting[2], (self._start, self._end), spot, size, casting[1])
                if acts is not None:
                    pair.append((Actor(casting[1], casting[0], acts), size))
            if len(pair) == 2 and self._add(pair):
                return

    def _choose_look(
        self, size: Size, parts: int, *, stays: bool = False, same_size: bool = False, circles: bool = False
    ) -> tuple[Color, Shape, tuple[Action, ...]] | None:
        """Color, shape and an action for each of ``parts`` acts; None where the cast has no such combination."""
        chance, cast = self._chance, self._cast
        if circles:
            circle, rest = Action.CIRCLE, Action.REST
            plans: list[tuple[Action, ...]] = [(circle,)] if parts == 1 else [(circle, rest), (rest, circle)]
        else:
            pool = [a for a in cast.actions if a is not Action.CIRCLE and fits_size(a, size)]
            if stays:
                pool = [a for a in pool if a.stays] or [Action.REST]
            if same_size:
                pool = [a for a in pool if a not in (Action.GROW, Action.SHRINK)] or [Action.REST]
            plans = [_draw_actions(chance, pool, parts) for _ in range(4)]
        options = [
            (color, shape, plan)
            for color, shape, plan in product(self._colors, cast.shapes, plans)
            if (color, shape, size) not in self._looks and all(cast.allows(color, shape, action) for action in plan)
        ]
        if cast.split == "test" and chance.random() < _UNSEEN:
            options = [o for o in options if any(is_held_out(o[0], o[1], action) for action in o[2])] or options
        return chance.choice(options) if options else None

    def _choose_spot(self, size: Size) -> tuple[float, float]:
        widest = size.value + MARGIN
        return self._chance.uniform(widest, 1 - widest), self._chance.uniform(widest, 1 - widest)

    def _choose_corner(self, size: Size) -> tuple[float, float]:
        near, far = size.value + MARGIN + 0.04, 0.96 - size.value - MARGIN
        return self._chance.choice((near, far)), self._chance.choice((near, far))

    def _add(self, group: list[tuple[Actor, Size]]) -> bool:
        """Adds the actors, unless one would be hidden too much."""
        actors = [*self.actors, *(actor for actor, _ in group)]
        looks = {(actor.color, actor.shape, size) for actor, size in group}
        shares = visible_shares([pose_through(actor.acts) for actor in actors])
        if len(looks) < len(group) or any(s.min() < LOWEST_VISIBLE or s.mean() < MEAN_VISIBLE for s in shares):
            return False
        self.actors = actors
        self._looks |= looks
        return True


def _draw_actions(chance: Random, pool: Sequence[Action], parts: int) -> tuple[Action, ...]:
    """One action for each part, no two alike in a row where there is a choice."""
    actions: list[Action] = []
    for _ in range(parts):
        others = [action for action in pool if actions[-1:] != [action]]
        actions.append(chance.choice(others or pool))
    return tuple(actions)
