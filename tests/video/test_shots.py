"""Cuts are found to the frame in files that have them, and none where pictures move, fade, flash or are noisy."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.videos import write_video

from r2tuning.errors import VideoError
from r2tuning.synthetic import Script
from r2tuning.synthetic import write_video as write_script
from r2tuning.synthetic.scenes import Act, Action, Actor, Color, Place, Scene, Shape
from r2tuning.video.shots import HEIGHT, LEVELS, RATIO, SHARE, WIDTH, detect_shots, find_cuts

FPS = 10
SIZE = (96, 54)  # width and height, pixels


def texture(seed: int) -> np.ndarray:
    """A picture ``[54, 96, 3]`` of soft blotches, in floats from 0 to 255."""
    coarse = np.random.default_rng(seed).uniform(20, 235, (7, 12, 3))
    return coarse.repeat(8, axis=0)[: SIZE[1]].repeat(8, axis=1)


def encode(path: Path, pictures: Sequence[np.ndarray], times: Sequence[float] | None = None) -> Path:
    """Writes pictures at 10 frames per second, or at those seconds."""
    base = Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = base
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="rgb24")
            frame.pts = round((index / FPS if times is None else times[index]) / base)
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def starts(path: Path) -> list[float]:
    shots = detect_shots(path)
    assert [end for _, end in shots[:-1]] == [start for start, _ in shots[1:]]
    return [round(start, 3) for start, _ in shots]


def test_cuts_are_found_to_the_frame(tmp_path: Path) -> None:
    pictures = [texture(1)] * 13 + [texture(2)] * 8 + [texture(3)] * 20
    path = encode(tmp_path / "cuts.mp4", pictures)
    assert starts(path) == [0, 1.3, 2.1]
    assert detect_shots(path)[-1][1] == pytest.approx(4.1)


def test_times_are_those_of_the_frames_whatever_the_rate(tmp_path: Path) -> None:
    pictures = [texture(1)] * 8 + [texture(2)] * 12
    times = [0.5 + 0.1 * i + (0.037 if i % 3 else 0.0) for i in range(20)]
    assert starts(encode(tmp_path / "uneven.mkv", pictures, times)) == [0.5, round(times[8], 3)]


def test_cuts_between_moving_pictures_are_found(tmp_path: Path) -> None:
    pictures = [np.roll(texture(1), 2 * i, axis=1) for i in range(15)]
    pictures += [np.roll(texture(2), -2 * i, axis=0) for i in range(15)]
    assert starts(encode(tmp_path / "moving.mp4", pictures)) == [0, 1.5]


def test_a_cut_through_one_mixed_frame_is_one_cut(tmp_path: Path) -> None:
    pictures = [texture(1)] * 12 + [0.5 * texture(1) + 0.5 * texture(2)] + [texture(2)] * 12
    assert len(starts(encode(tmp_path / "mixed.mp4", pictures))) == 2


def pan() -> Iterator[np.ndarray]:
    wide = np.concatenate([texture(seed) for seed in range(4)], axis=1)
    for shift in [0] * 8 + list(range(0, 270, 9)):  # rests, then moves on by a tenth of the picture in every frame
        yield wide[:, shift : shift + SIZE[0]]


def fade() -> Iterator[np.ndarray]:
    for share in [0.0] * 8 + np.linspace(0, 1, 12).tolist() + [1.0] * 8 + np.linspace(1, 0, 12).tolist():
        yield share * texture(2)


def dissolve() -> Iterator[np.ndarray]:
    for share in [0.0] * 8 + np.linspace(0, 1, 10).tolist() + [1.0] * 8:
        yield share * texture(2) + (1 - share) * texture(1)


def noise() -> Iterator[np.ndarray]:
    draw = np.random.default_rng(0)
    for _ in range(30):
        yield texture(1) + draw.normal(0, 30, (SIZE[1], SIZE[0], 3))


def flashes() -> Iterator[np.ndarray]:
    for index in range(40):
        yield np.full_like(texture(1), 255) if index in (10, 22, 23, 24) else texture(1)


def blink() -> Iterator[np.ndarray]:
    for index in range(40):
        picture = texture(1)
        if index // 8 % 2:
            picture[10:40, 30:60] = 255  # a sixth of the picture
        yield picture


@pytest.mark.parametrize("pictures", [pan, fade, dissolve, noise, flashes, blink])
def test_what_is_no_cut(tmp_path: Path, pictures) -> None:  # type: ignore[no-untyped-def]
    assert starts(encode(tmp_path / "one.mp4", list(pictures()))) == [0]


def test_cuts_of_moving_shapes_are_found(tmp_path: Path) -> None:
    """Another place is a cut; an actor that blinks in front of it is none."""
    edges = [0.0, 2.0, 3.5, 6.0, 7.0]
    places = (Place.SEA, Place.NIGHT, Place.SEA, Place.BRICK)
    scenes = []
    for number, place in enumerate(places):
        start, end = edges[number], edges[number + 1]
        act = Act(Action.BLINK, start, end, (0.4, 0.5), (0.4, 0.5), (0.19, 0.19), period=0.8)
        color = next(color for color in Color if color not in place.hides)
        scenes.append(Scene(place, number, start, end, (Actor(Shape.STAR, color, (act,)),)))
    path = tmp_path / "shapes.mp4"
    write_script(Script("shapes", "train", 0, tuple(scenes)), path)
    assert starts(path) == edges[:-1]


def test_progress_and_a_video_of_one_frame(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    detect_shots(write_video(tmp_path / "long.mp4", frames=150, fps=30), lambda done, of: seen.append((done, of)))
    assert seen == [(64, 150), (128, 150)]
    assert detect_shots(write_video(tmp_path / "one.mp4", frames=1, fps=10, start=3)) == [(3.0, pytest.approx(3.1))]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"no\.mp4 does not exist"):
        detect_shots(tmp_path / "no.mp4")


def is_cut(levels: Sequence[tuple[float, float]], i: int, reach: int) -> bool:
    """The rule of `find_cuts` once more, in plain Python, for pictures of two halves."""

    def apart(a: int, b: int) -> float:
        return sum(abs(x - y) for x, y in zip(levels[a], levels[b], strict=True)) / 2

    if i - 1 - reach < 0 or i + reach >= len(levels):
        return False
    change = apart(i - 1, i)
    before = [apart(k - 1, k) for k in range(i - reach, i)]
    after = [apart(k - 1, k) for k in range(i + 1, i + reach + 1)]
    changed = sum(abs(x - y) >= LEVELS for x, y in zip(levels[i - 1], levels[i], strict=True)) / 2
    stays = all(apart(i - 1, i + k) >= change / 2 and apart(i - 1 - k, i) >= change / 2 for k in range(1, reach + 1))
    largest = change > max(before) and change >= max(after)
    steady = change >= RATIO * sum(before) / reach and change >= RATIO * sum(after) / reach
    return largest and steady and changed >= SHARE and stays


halves = st.tuples(*[st.sampled_from([0.0, 4.0, 100.0, 101.0, 250.0])] * 2)


@given(st.lists(st.tuples(halves, st.integers(1, 6)), min_size=1, max_size=8), st.integers(2, 4))
def test_the_rule_is_that_of_a_plain_loop(runs: list[tuple[tuple[float, float], int]], reach: int) -> None:
    levels = [level for level, count in runs for _ in range(count)]
    pictures = [np.repeat(np.array(level, np.float32), 3).reshape(1, 2, 3) for level in levels]
    assert list(find_cuts(pictures, reach)) == [i for i in range(len(levels)) if is_cut(levels, i, reach)]


def test_small_copies_have_the_shape_of_most_videos() -> None:
    assert WIDTH * 9 == HEIGHT * 16
