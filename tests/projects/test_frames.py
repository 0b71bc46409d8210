"""Frames that are drawn are those that would be decoded, and what is noted of them is true."""

from pathlib import Path

import numpy as np
import pytest

from projects.moving_shapes.frames import ATTRIBUTES, PLACES, SHAPES, UNKNOWN, Frames, draw_frames, sampled_times
from r2tuning.synthetic import make_video, write_video
from r2tuning.synthetic.actions import track_script
from r2tuning.synthetic.scenes import FPS
from r2tuning.types import Preprocessing
from r2tuning.video import sample_frames

SIDE = 64


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return draw_frames(tmp_path_factory.mktemp("frames"), "val", 2, SIDE, 1, lambda _done, _of: None)


def test_drawn_frames_are_the_decoded_ones(frames: Frames, tmp_path: Path) -> None:
    script = make_video(0, "val")
    write_video(script, tmp_path / "video.mp4")
    with sample_frames(tmp_path / "video.mp4", 0.5, Preprocessing(SIDE)) as stream:
        batches = list(stream)
    decoded = np.concatenate([batch.pixels for batch in batches]).astype(int)
    drawn = frames.pixels[frames.starts[0] : frames.starts[1]].astype(int)
    assert decoded.shape == drawn.shape
    np.testing.assert_allclose(np.concatenate([batch.times for batch in batches]), sampled_times(script), atol=1e-6)
    # Compression changes a level or two; a frame 0.1 s away would move edges by far more.
    assert np.abs(decoded - drawn).mean() < 2.5
    others = np.abs(decoded[1:] - drawn[:-1]).mean(axis=(1, 2, 3))
    assert np.median(others) > np.abs(decoded - drawn).mean()


def test_what_is_noted_is_in_the_script(frames: Frames) -> None:
    script = make_video(1, "val")
    scenes = track_script(script)
    for row, time in enumerate(sampled_times(script), start=int(frames.starts[1])):
        scene = next(each for each in scenes if each.span.start <= round(time * FPS) < each.span.stop)
        assert PLACES[frames.places[row]] is scene.scene.place
        at = round(time * FPS) - scene.span.start
        for slot, track in enumerate(scene.tracks):
            noted, geometry = frames.attributes[row, slot], frames.geometry[row, slot]
            if not track.pose.lit[at]:
                assert (noted == -1).all()
                continue
            assert SHAPES[noted[ATTRIBUTES.index("shape")]] is track.actor.shape
            assert noted[ATTRIBUTES.index("size")] in (UNKNOWN, 0, 1, 2)
            np.testing.assert_allclose(
                geometry[:3], [track.pose.x[at], track.pose.y[at], track.pose.radius[at]], rtol=1e-6
            )


def test_frames_are_drawn_once(frames: Frames, tmp_path: Path) -> None:
    first = draw_frames(tmp_path, "val", 1, SIDE, 1, lambda _done, _of: None)
    calls: list[int] = []
    again = draw_frames(tmp_path, "val", 1, SIDE, 1, lambda done, _of: calls.append(done))
    assert not calls
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.pixels, frames.pixels[: frames.starts[1]])
