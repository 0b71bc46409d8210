"""What is in the MP4 file is what the annotations say: found again by color, outline and movement."""

from itertools import pairwise, product
from pathlib import Path
from random import Random

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from r2tuning.synthetic import Script, make_video, render, write_video
from r2tuning.synthetic.actions import play, play_circling, track_script
from r2tuning.synthetic.backdrops import paint_place
from r2tuning.synthetic.generate import is_written
from r2tuning.synthetic.queries import choose_queries
from r2tuning.synthetic.render import distance_at
from r2tuning.synthetic.scenes import FPS, HEIGHT, WIDTH, Act, Action, Actor, Color, Place, Scene, Shape, Size
from r2tuning.synthetic.semantics import Clause, Look, Meaning, find_truth
from r2tuning.video import probe

SEEDS = (7, 35)
NEAR = 40.0
"""Largest distance in RGB from a fill at which a decoded pixel still counts as filled."""


def read_frames(path: Path) -> NDArray[np.uint8]:
    """All frames ``[n, height, width, 3]`` of a video."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def find_color(frame: NDArray[np.uint8], color: Color) -> NDArray[np.bool_]:
    """Where a frame has the fill of a color."""
    difference = frame.astype(np.float32) - np.array(color.value, dtype=np.float32)
    return np.asarray(np.linalg.norm(difference, axis=-1) < NEAR)


def find_center(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean column and row of the pixels found."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def recognize_shape(mask: NDArray[np.bool_], radius: float) -> Shape:
    """The shape, upright and of that radius in pixels, that covers the pixels found best at any place near them."""
    rows, columns = np.nonzero(mask)
    middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    y, x = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]].astype(np.float32)
    best = {}
    for shape in Shape:
        overlaps = []
        for dx in np.arange(-0.2, 0.21, 0.1):
            for dy in np.arange(-0.3, 0.31, 0.1):
                across, down = (x - middle[0]) / radius + np.float32(dx), (y - middle[1]) / radius + np.float32(dy)
                drawn = distance_at(shape, across, down) < -0.1  # the rim has another color
                overlaps.append((drawn & mask).sum() / (drawn | mask).sum())
        best[shape] = max(overlaps)
    return max(best, key=lambda shape: best[shape])


@pytest.fixture(scope="module", params=SEEDS)
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Script, Path]:
    script = make_video(request.param, "test")
    path = tmp_path_factory.mktemp("video") / f"{script.vid}.mp4"
    write_video(script, path)
    return script, path


def test_files_are_small_and_as_long_as_annotated(video: tuple[Script, Path]) -> None:
    script, path = video
    info = probe(path)
    assert (info.width, info.height, info.codec, info.rotation) == (WIDTH, HEIGHT, "h264", 0)
    assert (info.duration, info.start) == (script.duration, 0)
    assert info.frame_rate == FPS
    assert path.stat().st_size < 1_000_000
    assert is_written(script, path)
    assert not is_written(make_video(script.seed, "val"), path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_decoded_frames_are_the_drawn_ones(video: tuple[Script, Path]) -> None:
    script, path = video
    decoded = read_frames(path)
    assert decoded.shape == (script.frames, HEIGHT, WIDTH, 3)
    for index in range(0, script.frames, 37):
        # 6 of 255 levels on average: the loss of the encoder and of color at half the resolution.
        assert np.abs(decoded[index].astype(int) - render(script, index / FPS)).mean() < 6


def test_every_color_is_seen_exactly_when_it_is_there(video: tuple[Script, Path]) -> None:
    """Frame by frame, so also right up to each cut."""
    script, path = video
    decoded, scenes = read_frames(path), track_script(script)
    compared = 0
    for color in Color:
        true = find_truth(Meaning(clauses=(Clause(Look(color=color)),)), scenes).certain
        for scene in scenes:
            actors = [track for track in scene.tracks if track.actor.color is color]
            if color in scene.scene.place.hides:
                assert not actors  # and the place itself has that color
                continue
            inner = [round(frame) for frame in np.linspace(scene.span.start, scene.span.stop - 1, 5)]
            for frame in inner:
                at = frame - scene.span.start
                found = int(find_color(decoded[frame], color).sum())
                if not true[frame] or not any(track.pose.lit[at] for track in actors):
                    assert found < 12, (color, frame)
                elif any(track.pose.lit[at] and track.visible[at] > 0.8 for track in actors):
                    assert found >= 20, (color, frame)
                compared += bool(true[frame])
    assert compared >= 20


@pytest.mark.slow
def test_moving_targets_move_as_the_query_says_in_its_moments() -> None:
    """Where a moving actor's color is seen once, its center goes that way, in drawn frames."""
    headings = {Action.MOVE_LEFT: (-1, 0), Action.MOVE_RIGHT: (1, 0), Action.RISE: (0, -1), Action.FALL: (0, 1)}
    seen = set()
    for seed in range(60):
        script = make_video(seed, "train")
        for query in choose_queries(script):
            moving = [c for c in query.meaning.clauses if c.action in headings and c.subject.color is not None]
            for clause, (start, end) in product(moving, query.windows):
                scene = next(s for s in script.scenes if s.start <= start < s.end)
                if end > scene.end or sum(actor.color is clause.subject.color for actor in scene.actors) > 1:
                    continue
                first, last = (
                    find_center(find_color(render(script, time), clause.subject.color))
                    for time in (start, end - 1 / FPS)
                )
                along, across = headings[clause.action], headings[clause.action][::-1]
                moved = np.subtract(last, first) / HEIGHT
                assert moved @ along > 0.1, (script.vid, query.text)
                assert abs(moved @ across) < 0.12  # another in front may hide a part
                seen.add(clause.action)
    assert len(seen) == 4


@pytest.mark.parametrize("place", Place)
def test_places_have_no_color_that_an_actor_may_have_there(place: Place) -> None:
    for texture in range(4):
        picture = paint_place(place, texture)
        for color in set(Color) - set(place.hides):
            assert find_color(picture, color).sum() < 12, color  # of 57344 pixels: a glint of the sea


def film(
    tmp_path: Path, acts: tuple[Act, ...], shape: Shape, *others: Actor, color: Color = Color.RED
) -> list[NDArray[np.bool_]]:
    """Encodes one scene, and finds the color in every frame of the file."""
    actors = (*others, Actor(shape, color, acts, center=0 if others else None))
    script = Script("film", "train", 0, (Scene(Place.SEA, 5, 0.0, acts[-1].end, actors),))
    write_video(script, tmp_path / "film.mp4")
    return [find_color(frame, color) for frame in read_frames(tmp_path / "film.mp4")]


@pytest.mark.parametrize("shape", Shape)
def test_shapes_are_recognized_in_decoded_frames(tmp_path: Path, shape: Shape) -> None:
    act = Act(Action.REST, 0.0, 2.0, (0.45, 0.55), (0.45, 0.55), (0.18, 0.18))
    mask = film(tmp_path, (act,), shape)[7]
    assert recognize_shape(mask, 0.18 * HEIGHT) is shape


def play_one(action: Action, start: tuple[float, float] = (0.5, 0.5), shape: Shape = Shape.HEART) -> tuple[Act, ...]:
    acts = play(Random(4), [action], [0.0, 8.0], start, Size.MEDIUM, shape)
    assert acts is not None
    return acts


def test_actions_are_seen_in_decoded_frames(tmp_path: Path) -> None:
    """At the rate that models look at, one frame in 2 s, each action leaves its mark."""
    areas = {
        action: [int(mask.sum()) for mask in film(tmp_path, play_one(action), Shape.HEART)[10::20]]
        for action in (Action.REST, Action.GROW, Action.SHRINK)
    }
    assert np.ptp(areas[Action.REST]) <= 0.02 * areas[Action.REST][0]
    assert (np.diff(areas[Action.GROW]) > 0.1 * areas[Action.REST][0]).all()
    assert (np.diff(areas[Action.SHRINK]) < -0.05 * areas[Action.REST][0]).all()

    blinking = [bool(mask.sum() > 30) for mask in film(tmp_path, play_one(Action.BLINK), Shape.HEART)]
    assert 0.6 < np.mean(blinking) < 0.8
    assert len(set(blinking[10::20])) == 2

    heights = [
        find_center(mask)[1] / HEIGHT for mask in film(tmp_path, play_one(Action.BOUNCE, (0.5, 0.8)), Shape.HEART)
    ]
    assert 0.2 < np.ptp(heights) < 0.36
    assert np.ptp(heights[10::20]) > 0.05

    for shape in (Shape.STAR, Shape.BOLT, Shape.TRIANGLE, Shape.MOON):
        masks = film(tmp_path, play_one(Action.SPIN, shape=shape), shape)[10::20]
        for one, other in pairwise(masks):
            assert (one ^ other).sum() > 0.08 * one.sum(), shape


def test_circling_is_seen_in_decoded_frames(tmp_path: Path) -> None:
    hub = Actor(Shape.RING, Color.WHITE, (Act(Action.REST, 0.0, 16.0, (0.5, 0.5), (0.5, 0.5), (0.18, 0.18)),))
    acts = play_circling(Random(1), [0.0, 16.0], (0.5, 0.5), 0.27, 0.06, rests_first=False)
    masks = film(tmp_path, acts, Shape.STAR, hub)
    centers = np.array([find_center(mask) for mask in masks]) - (WIDTH / 2, HEIGHT / 2)
    assert np.abs(np.hypot(*centers.T) / HEIGHT - 0.27).max() < 0.01
    turned = np.unwrap(np.arctan2(centers[:, 1], centers[:, 0]))
    assert abs(turned[-1] - turned[0]) > 2 * np.pi
    assert (np.diff(turned) > 0).all() or (np.diff(turned) < 0).all()
