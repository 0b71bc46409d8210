import gc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import read_index, write_video

from r2tuning.errors import VideoError
from r2tuning.types import Preprocessing
from r2tuning.video import FrameStream, sample_frames

NTSC = Fraction(30000, 1001)


def sampled_indices(path, fps, **options):
    with sample_frames(path, fps, **options) as stream:
        return [read_index(pixels) for batch in stream for pixels in batch.pixels]


def filtered_indices(path, fps):
    """What FFmpeg's fps filter picks, with time counted from the first frame."""
    picked = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream, time_base=stream.time_base)
        rate, sink = graph.add("fps", f"fps={Fraction(fps)}:round=near"), graph.add("buffersink")
        source.link_to(rate)
        rate.link_to(sink)
        graph.configure()
        first = None
        for frame in [*container.decode(stream), None]:
            if frame is not None:
                first = frame.pts if first is None else first
                frame.pts -= first
            graph.vpush(frame)
            while True:
                try:
                    image = graph.vpull().to_ndarray(format="rgb24")
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
                margin = (image.shape[1] - image.shape[0]) // 2
                picked.append(read_index(image[:, margin : margin + image.shape[0]].transpose(2, 0, 1)))
    return picked


@pytest.fixture(scope="module", params=["24", "25", "ntsc", "30", "60", "variable", "delayed", "delayed-mkv", "vp9"])
def timed_video(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("timed")
    gaps = np.random.default_rng(7).choice([0.01, 0.03, 0.04, 0.2, 0.9], size=80)
    name, options = {
        "24": ("a.mp4", {"fps": 24}),
        "25": ("a.mp4", {"fps": 25}),
        "ntsc": ("a.mp4", {"fps": NTSC}),
        "30": ("a.mp4", {"fps": 30}),
        "60": ("a.mp4", {"fps": 60, "frames": 200}),
        "variable": ("a.mp4", {"times": np.cumsum(gaps).tolist()}),
        "delayed": ("a.mp4", {"start": 8.33}),
        "delayed-mkv": ("a.mkv", {"start": 1.075, "fps": 25}),
        "vp9": ("a.webm", {"codec": "libvpx-vp9", "fps": NTSC}),
    }[request.param]
    return write_video(folder / name, **({"frames": 130} | options))


@pytest.mark.parametrize("fps", ["1/2", "1", "2", "0.59", "45"])
def test_picks_the_frames_of_ffmpegs_fps_filter(timed_video, fps):
    expected = filtered_indices(timed_video, fps)
    assert sampled_indices(timed_video, float(Fraction(fps)), preprocessing=Preprocessing(64)) == expected
    assert len(set(expected)) > 1


def test_picks_the_last_frame_before_each_centre(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=180, fps=30)
    with sample_frames(path, 0.5, batch_size=2) as stream:
        assert stream.expected_frames == 3
        batches = list(stream)
    # Centres 1, 3 and 5 s; a frame shown exactly then is not before it.
    assert np.concatenate([b.times for b in batches]) == pytest.approx([29 / 30, 89 / 30, 149 / 30], abs=1e-9)
    assert [read_index(p) for b in batches for p in b.pixels] == [29, 89, 149]
    assert [b.pixels.shape for b in batches] == [(2, 3, 224, 224), (1, 3, 224, 224)]
    assert batches[0].pixels.dtype == np.uint8
    assert batches[0].times.dtype == np.float64


def test_times_are_on_the_players_clock(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=60, fps=30, start=8.5)
    with sample_frames(path, 1) as stream:
        times = np.concatenate([batch.times for batch in stream])
    assert times == pytest.approx([8.5 + 14 / 30, 8.5 + 44 / 30], abs=1e-9)
    assert stream.sampled.start == stream.info.start == pytest.approx(8.5)


def test_a_video_shorter_than_half_a_clip_gives_one_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=3, fps=30)
    assert sampled_indices(path, 0.5) == [2]


def test_rates_above_the_videos_own_repeat_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=4, fps=10)
    assert sampled_indices(path, 30, preprocessing=Preprocessing(64)) == [i // 3 for i in range(12)]


def test_rounded_fps_values_are_read_as_the_rates_they_mean(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=60, fps=NTSC)
    assert sampled_indices(path, 30000 / 1001, preprocessing=Preprocessing(64)) == list(range(60))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
@pytest.mark.parametrize("sampling", ["exact", "fast", "keyframe"])
def test_batch_size_does_not_change_the_frames(tmp_path, batch_size, sampling):
    path = write_video(tmp_path / "a.mp4", frames=70)
    whole = list(sample_frames(path, 5, Preprocessing(64), batch_size=1000, sampling=sampling))
    parts = list(sample_frames(path, 5, Preprocessing(64), batch_size=batch_size, sampling=sampling))
    assert max(len(part.times) for part in parts) <= batch_size
    np.testing.assert_array_equal(np.concatenate([p.pixels for p in parts]), whole[0].pixels)
    np.testing.assert_array_equal(np.concatenate([p.times for p in parts]), whole[0].times)


def test_keyframe_sampling_takes_the_nearest_key_frame(tmp_path):
    # Key frames at 0, 0.8, 1.6, 2.4 s …; centres at 0.25, 0.75, 1.25 s …; of two equally near, the earlier.
    path = write_video(tmp_path / "a.mp4", frames=100, fps=25, gop=20, b_frames=0)
    centres = np.arange(8) * 0.5 + 0.25
    keys = np.arange(5) * 0.8
    expected = [int(20 * np.argmin(np.abs(keys - c).round(9))) for c in centres]
    assert sampled_indices(path, 2, sampling="keyframe") == expected


def test_memory_does_not_grow_with_the_video(tmp_path):
    def most_frames_alive(frames):
        path = write_video(tmp_path / f"{frames}.mp4", frames=frames, b_frames=0)
        alive = [
            sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
            for _ in sample_frames(path, 10, Preprocessing(64), batch_size=40)
        ]
        return max(alive)

    short, long = most_frames_alive(240), most_frames_alive(1200)
    assert short >= 1  # the count sees frames at all
    # Each decoding thread holds a few frames, and how many depends on the moment. Memory that grew with the video would
    # hold hundreds of its 1,200.
    assert long <= short + 16


def is_open(path):
    return any(link.resolve() == path for link in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed only on Linux")
def test_stopping_early_releases_the_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=300)
    with sample_frames(path, 10, Preprocessing(64), batch_size=2) as stream:
        assert not is_open(path)  # nothing is open before the first batch
        next(stream)
        assert is_open(path)
    assert not is_open(path)
    with pytest.raises(StopIteration):
        next(stream)
    with pytest.raises(RuntimeError, match="iterate to the end"):
        _ = stream.sampled


def test_sampled_is_known_after_the_last_batch(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=60)
    stream = sample_frames(path, 2)
    assert isinstance(stream, FrameStream)
    with pytest.raises(RuntimeError, match="iterate to the end"):
        _ = stream.sampled
    assert sum(len(batch.times) for batch in stream) == 4
    assert (stream.sampled.frames, stream.sampled.duration, stream.sampled.truncated) == (4, 2.0, False)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_refuses_impossible_rates(tmp_path, fps):
    with pytest.raises(ValueError, match="give a number of frames per second above 0"):
        sample_frames(write_video(tmp_path / "a.mp4", frames=2), fps)


def test_refuses_other_impossible_arguments(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=2)
    with pytest.raises(ValueError, match="size is 0"):
        sample_frames(path, 1, Preprocessing(0))
    with pytest.raises(ValueError, match="batch_size is 0"):
        sample_frames(path, 1, batch_size=0)
    with pytest.raises(ValueError, match="'keyframes'; give one of exact, fast, keyframe"):
        sample_frames(path, 1, sampling="keyframes")


def test_a_file_that_vanishes_before_sampling_is_a_video_error(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=2)
    stream = sample_frames(path, 1)
    path.unlink()
    with pytest.raises(VideoError, match="does not exist"):
        next(stream)
