"""One contract for every way of sampling and every awkward video: a right result, or one clear line."""

import warnings

import numpy as np
import pytest
from support.files import shared_file
from support.videos import STREAM_OFFSET, read_index, write_video

from r2tuning.errors import VideoError, VideoWarning
from r2tuning.types import Preprocessing
from r2tuning.video import probe, sample_frames

# Every video lasts 2 s at 30 fps unless its trouble is time; the name says the trouble.
AWKWARD = {
    "plain.mp4": {},
    "b_frames.mp4": {"b_frames": 3, "gop": 30},
    "only_key_frames.mp4": {"gop": 1, "b_frames": 0},
    "one_key_frame.mp4": {"gop": 1000},
    "delayed_start.mp4": {"start": 8.33},
    "delayed_start.mkv": {"start": 8.33},
    "hidden_beginning.mp4": {"start": -0.5},
    "rotated_90.mp4": {"rotation": 90, "size": (80, 48)},
    "rotated_180.mp4": {"rotation": 180, "size": (48, 80)},
    "rotated_270.mov": {"rotation": 270, "size": (48, 80)},
    "variable_frame_rate.mp4": {"times": [0, 0.1, 0.5, 0.52, 0.9, 1.2, 1.9]},
    "variable_frame_rate.mkv": {"times": [0, 0.1, 0.5, 0.52, 0.9, 1.2, 1.9]},
    "milliseconds.mkv": {"fps": 60, "frames": 120},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp8.webm": {"codec": "libvpx"},
    "av1.mkv": {"codec": "libsvtav1"},
    "hevc.mp4": {"codec": "libx265"},
    "broadcast.ts": {"start": 5, "audio": 2},
    "no_presentation_times.avi": {"codec": "libx264", "b_frames": 2},
    "no_presentation_times_mpeg4.avi": {"codec": "mpeg4", "b_frames": 2},
    "no_times_at_all.h264": {},
    "program_stream.mpg": {"codec": "mpeg2video"},
    "flash.flv": {},
    "full_range.mov": {"codec": "mjpeg"},
    "animation.gif": {"codec": "gif", "fps": 25, "frames": 50},
    "longer_sound.mp4": {"audio": 4},
    "two_videos.mkv": {"streams": 2, "default_stream": 1},
    "one_frame.mp4": {"frames": 1},
    "tiny.mp4": {"size": (16, 16), "frames": 30},
    "tall.mp4": {"size": (48, 480)},
    "wide.mp4": {"size": (480, 48)},
}
SAMPLINGS = ("exact", "fast", "keyframe")


@pytest.fixture(scope="module", params=AWKWARD)
def awkward_video(request, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("awkward") / request.param, **AWKWARD[request.param])


def sample(path, fps=4.0, sampling="exact"):
    """All frames as one array, their times, and the stream they came from."""
    with sample_frames(path, fps, Preprocessing(96), sampling=sampling) as stream:
        batches = list(stream)
    return np.concatenate([b.pixels for b in batches]), np.concatenate([b.times for b in batches]), stream


@pytest.mark.parametrize("sampling", SAMPLINGS)
class TestEveryAwkwardVideo:
    def test_result_agrees_with_itself(self, awkward_video, sampling):
        pixels, times, stream = sample(awkward_video, sampling=sampling)
        info, sampled = stream.info, stream.sampled
        assert pixels.shape == (stream.expected_frames, 3, 96, 96)
        assert sampled.frames == stream.expected_frames == max(1, int(info.duration * 4 + 0.5))
        assert (sampled.sampling, sampled.truncated) == (sampling, False)
        assert (sampled.duration, sampled.start) == (info.duration, info.start)
        assert (np.diff(times) >= 0).all()
        assert info.start <= times[0]
        assert times[-1] < info.start + info.duration

    def test_frames_are_the_ones_shown_at_their_times(self, awkward_video, sampling):
        options = AWKWARD[awkward_video.name]
        pixels, times, stream = sample(awkward_video, sampling=sampling)
        shown = np.array(options.get("times") or np.arange(options.get("frames", 60)) / options.get("fps", 30))
        if options.get("start", 0) < 0:
            shown = shown + options["start"]  # hidden frames have negative times
        nearest = [int(np.argmin(np.abs(shown - time))) for time in times - stream.info.start]
        offset = STREAM_OFFSET * options.get("default_stream", 0)
        indices = [read_index(frame) - offset for frame in pixels]
        # Without presentation times, B-frames shown before a key frame cannot be told from those after it.
        vague = sampling == "keyframe" and "b_frames" in options and awkward_video.suffix == ".avi"
        assert np.abs(np.subtract(indices, nearest)).max() <= (options["b_frames"] if vague else 0)

    def test_probe_says_the_same(self, awkward_video, sampling):
        with sample_frames(awkward_video, 1, sampling=sampling) as stream:
            assert stream.info == probe(awkward_video)
            assert stream.info.path == str(awkward_video)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_real_video_gives_a_result_or_one_clear_line(sampling, capfd):
    lines = []
    paths = sorted(shared_file("media").iterdir())
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VideoWarning)
            try:
                pixels, _, stream = sample(path, fps=1, sampling=sampling)
            except VideoError as error:
                lines.append(str(error))
                continue
        assert len(pixels) == stream.sampled.frames == stream.expected_frames
    assert 0 < len(lines) < len(paths)
    assert all(line.startswith("/") and len(line.splitlines()) == 1 for line in lines)
    assert capfd.readouterr() == ("", "")  # FFmpeg itself stays silent


@pytest.mark.parametrize("name", ["audio_only.mp4", "declares_5544_decodes_0.mp4"])
def test_real_videos_without_frames(name):
    with pytest.raises(VideoError, match=r"has no video stream \(found: audio\)|contains no video frames"):
        sample_frames(shared_file(f"media/{name}"), 1)
