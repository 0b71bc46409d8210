"""Truth is looked up in the world, on scenes made by hand whose truth is plain."""

import numpy as np
import pytest

from r2tuning.synthetic.actions import SceneTracks, track_scene
from r2tuning.synthetic.scenes import Act, Action, Actor, Color, Corner, Place, Scene, Shape, Size
from r2tuning.synthetic.semantics import Clause, Look, Meaning, Truth, find_truth, rate_clips, split_atoms

TINY, MEDIUM, LARGE = (size.value for size in Size)


def rest(start: float, end: float, x: float, y: float, radius: float, action: Action = Action.REST) -> Act:
    return Act(action, start, end, (x, y), (x, y), (radius, radius), period=2.0)


# Snow, 0 to 10 s: a tiny red star in the top left corner rests, then blinks from 6 s on; beside it a medium blue ring.
# Sea, 10 to 20 s: a red heart moves left, a blue star grows from medium to large, a red star circles it.
SNOW = Scene(
    Place.SNOW,
    1,
    0.0,
    10.0,
    (
        Actor(
            Shape.STAR,
            Color.RED,
            (rest(0.0, 6.0, 0.1, 0.1, TINY), rest(6.0, 10.0, 0.1, 0.1, TINY, Action.BLINK)),
        ),
        Actor(Shape.RING, Color.BLUE, (rest(0.0, 10.0, 0.1 + TINY + MEDIUM + 0.03, 0.13, MEDIUM),)),
    ),
)
SEA = Scene(
    Place.SEA,
    2,
    10.0,
    20.0,
    (
        Actor(
            Shape.HEART,
            Color.RED,
            (Act(Action.MOVE_LEFT, 10.0, 20.0, (0.9, 0.9), (0.1, 0.9), (TINY, TINY)),),
        ),
        Actor(
            Shape.STAR,
            Color.BLUE,
            (Act(Action.GROW, 10.0, 15.0, (0.5, 0.4), (0.5, 0.4), (MEDIUM, LARGE)), rest(15.0, 20.0, 0.5, 0.4, LARGE)),
        ),
        Actor(
            Shape.STAR,
            Color.RED,
            (Act(Action.CIRCLE, 10.0, 20.0, (0.5, 0.4), (0.5, 0.4), (TINY, TINY), period=7.0, reach=0.3),),
            center=1,
        ),
    ),
)
SCENES: tuple[SceneTracks, ...] = (track_scene(SNOW), track_scene(SEA))

RED_STAR, BLUE_STAR = Look(Color.RED, Shape.STAR), Look(Color.BLUE, Shape.STAR)


def spans(flags: np.ndarray) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff([0, *flags.astype(int), 0])) / 10
    return [(float(start), float(end)) for start, end in edges.reshape(-1, 2)]


CLEAR = {
    "place": (Meaning(Place.SNOW), [(0, 10)]),
    "no such place": (Meaning(Place.CITY), []),
    "look": (Meaning(clauses=(Clause(RED_STAR),)), [(0, 20)]),
    "look in a place": (Meaning(Place.SEA, (Clause(RED_STAR),)), [(10, 20)]),
    "color and shape of different actors": (Meaning(clauses=(Clause(Look(Color.BLUE, Shape.HEART)),)), []),
    "action": (Meaning(clauses=(Clause(RED_STAR, Action.BLINK),)), [(6, 10)]),
    "action of another": (Meaning(clauses=(Clause(Look(shape=Shape.RING), Action.MOVE_LEFT),)), []),
    "circling": (Meaning(clauses=(Clause(RED_STAR, Action.CIRCLE, center=BLUE_STAR),)), [(10, 20)]),
    "circling the wrong way round": (Meaning(clauses=(Clause(BLUE_STAR, Action.CIRCLE, center=RED_STAR),)), []),
    "corner": (Meaning(Place.SNOW, (Clause(RED_STAR, corner=Corner.TOP_LEFT),)), [(0, 10)]),
    "other corner": (Meaning(Place.SNOW, (Clause(RED_STAR, corner=Corner.TOP_RIGHT),)), []),
    "any corner": (Meaning(Place.SNOW, (Clause(RED_STAR, corner=Corner.ANY),)), [(0, 10)]),
    "beside": (Meaning(clauses=(Clause(RED_STAR, neighbor=Look(shape=Shape.RING)),)), [(0, 10)]),
    "beside, the other way": (Meaning(clauses=(Clause(Look(shape=Shape.RING), neighbor=RED_STAR),)), [(0, 10)]),
    "not beside": (Meaning(clauses=(Clause(Look(shape=Shape.HEART), neighbor=Look(Color.WHITE)),)), []),
    "at the same time": (
        Meaning(clauses=(Clause(BLUE_STAR, Action.GROW), Clause(Look(shape=Shape.HEART), Action.MOVE_LEFT))),
        [(10, 15)],
    ),
    "never at the same time": (
        Meaning(clauses=(Clause(BLUE_STAR, Action.GROW), Clause(Look(shape=Shape.RING)))),
        [],
    ),
}


@pytest.mark.parametrize(("meaning", "expected"), CLEAR.values(), ids=CLEAR)
def test_plain_truth(meaning: Meaning, expected: list[tuple[float, float]]) -> None:
    truth = find_truth(meaning, SCENES)
    assert spans(truth.certain) == expected
    assert truth.clear


ARGUABLE = {
    "a growing star is not yet large": (Clause(Look(Color.BLUE, Shape.STAR, Size.LARGE)), [(15, 20)], [(10, 20)]),
    "a blinking star rests too": (Clause(Look(Color.RED, Shape.STAR, Size.TINY), Action.REST), [(0, 6)], [(0, 10)]),
    "a circling star goes left at times": (Clause(RED_STAR, Action.MOVE_LEFT), [], [(10, 20)]),
    "what leaves through a corner is in it": (
        Clause(Look(shape=Shape.HEART), corner=Corner.BOTTOM_RIGHT),
        [],
        [(10, 13.4)],  # its edge is 0.3 heights from the side when its center has moved 0.275 of 0.8 in 10 s
    ),
}


@pytest.mark.parametrize(("clause", "certain", "possible"), ARGUABLE.values(), ids=ARGUABLE)
def test_arguable_truth(
    clause: Clause, certain: list[tuple[float, float]], possible: list[tuple[float, float]]
) -> None:
    truth = find_truth(Meaning(clauses=(clause,)), SCENES)
    # 0.15 s: a frame and a half, for thresholds crossed on the way.
    np.testing.assert_allclose(spans(truth.certain), certain, atol=0.15)
    np.testing.assert_allclose(spans(truth.possible), possible, atol=0.15)
    assert not truth.clear


def test_truth_is_combined_in_both_readings() -> None:
    yes, no = np.array([True, True]), np.array([True, False])
    one, other = Truth(no, yes), Truth(yes, yes)
    assert (one & other).certain.tolist() == [True, False]
    assert (one | other).clear
    assert not (one & other).clear


def test_atoms_are_all_that_is_said() -> None:
    meaning = Meaning(Place.SEA, (Clause(RED_STAR, Action.CIRCLE, center=Look(Color.BLUE, size=Size.LARGE)),))
    assert set(split_atoms(meaning)) == {
        Meaning(Place.SEA),
        Meaning(clauses=(Clause(Look(color=Color.RED)),)),
        Meaning(clauses=(Clause(Look(shape=Shape.STAR)),)),
        Meaning(clauses=(Clause(Look(), Action.CIRCLE),)),
        Meaning(clauses=(Clause(Look(color=Color.BLUE)),)),
        Meaning(clauses=(Clause(Look(size=Size.LARGE)),)),
    }


def test_raters_see_size_occlusion_and_speed() -> None:
    grown = rate_clips(Meaning(clauses=(Clause(BLUE_STAR),)), SCENES)
    assert grown.shape == (10, 3)
    assert not grown[:5].any()
    assert (np.diff(grown[5:8], axis=0) >= 0).all()
    assert grown[5].min() < 4  # medium; large from the eighth clip on
    assert (grown[8:] == 4).all()
    # A red actor is resting at first, then blinks: half of each clip is dark, which the second rater minds most.
    blinking = rate_clips(Meaning(Place.SNOW, (Clause(RED_STAR),)), SCENES)
    assert (blinking[:3] == 4).all()
    assert (blinking[3:5] < 4).all()
    assert (blinking[3:5, 1] < blinking[3:5, 0]).all()
    # Where both the resting star and the faster, equally large one that circles count, the raters prefer rest.
    moving = rate_clips(Meaning(clauses=(Clause(Look(Color.RED)),)), SCENES)
    assert moving[0, 2] == 4
    assert moving[7, 2] < 4


def test_clips_count_where_the_middle_is_within_a_moment() -> None:
    ratings = rate_clips(Meaning(clauses=(Clause(BLUE_STAR, Action.GROW),)), SCENES)  # 10 to 15 s
    assert np.flatnonzero(ratings.any(axis=1)).tolist() == [5, 6]
    assert not rate_clips(Meaning(Place.CITY), SCENES).any()
