from fractions import Fraction

import numpy as np
import pytest
from support.files import shared_file
from support.videos import write_video

from r2tuning.video import probe
from r2tuning.video.timeline import find_frame_rate

NTSC_FILM = Fraction(24000, 1001)
NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("fps", [24, 25, 30, 60, NTSC, NTSC_FILM, Fraction(25, 2)])
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.ts", "libx264"), ("a.avi", "mpeg4")],
)
def test_constant_rates_are_exact(tmp_path, name, codec, fps):
    info = probe(write_video(tmp_path / name, fps=fps, codec=codec, frames=50))
    assert info.frame_rate == fps
    assert not info.variable_frame_rate
    assert info.duration == pytest.approx(float(50 / fps), abs=0.0015)  # MKV rounds to 1 ms at both ends
    assert info.start == 0


def test_variable_rate(tmp_path):
    times = [0, 0.1, 0.5, 0.52, 0.9, 2, 2.1, 5]
    for name in ("a.mp4", "a.mkv"):
        info = probe(write_video(tmp_path / name, times=times, fps=10))
        assert info.variable_frame_rate
        assert info.duration == pytest.approx(5.1, abs=0.001)
        assert info.frame_rate == pytest.approx(8 / 5.1, abs=0.001)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_and_displayed_size(tmp_path, rotation):
    info = probe(write_video(tmp_path / "a.mp4", rotation=rotation, size=(80, 48), frames=5))
    assert (info.rotation, info.width, info.height) == (rotation, 80, 48)


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("a.mp4", 8.33, 8.33),  # shown as stored
        ("a.mkv", 1.075, 1.075),
        ("a.ts", 5, 0),  # MPEG-TS clocks start anywhere
    ],
)
def test_start_on_the_players_clock(tmp_path, name, start, expected):
    info = probe(write_video(tmp_path / name, start=start))
    assert info.start == pytest.approx(expected, abs=0.0006)
    assert info.duration == pytest.approx(2, abs=0.001)


def test_mpeg_ts_counts_from_the_first_stream(tmp_path):
    # Sound begins at 0 less the encoder's priming of 1024 samples at 16 kHz.
    info = probe(write_video(tmp_path / "a.ts", start=3, audio=2))
    assert info.start == pytest.approx(3 + 1024 / 16000, abs=0.0001)


def test_frames_hidden_by_an_edit_list_do_not_count(tmp_path):
    info = probe(write_video(tmp_path / "a.mp4", start=-0.5))
    assert (info.start, info.duration) == (0, 1.5)


def test_longer_sound_does_not_lengthen_the_video(tmp_path):
    for name in ("a.mp4", "a.mkv"):
        assert probe(write_video(tmp_path / name, audio=4)).duration == pytest.approx(2, abs=0.001)


@pytest.mark.parametrize(
    ("name", "encoder", "codec"),
    [
        ("a.mp4", "libx264", "h264"),
        ("a.mp4", "libx265", "hevc"),
        ("a.webm", "libvpx-vp9", "vp9"),
        ("a.mkv", "libsvtav1", "av1"),
        ("a.avi", "mpeg4", "mpeg4"),
    ],
)
def test_codec_is_named_as_ffmpeg_does(tmp_path, name, encoder, codec):
    assert probe(write_video(tmp_path / name, codec=encoder, frames=10)).codec == codec


@pytest.mark.parametrize("rate", [Fraction(24), NTSC_FILM, Fraction(30), NTSC, Fraction(50), Fraction(60000, 1001)])
@pytest.mark.parametrize("per_second", [1000, 90000, 15360, 1_000_000_000])
def test_rate_is_found_without_any_hint(rate, per_second):
    ticks = np.array([round(i / rate * per_second) for i in range(2000)])
    assert find_frame_rate(ticks, round(2000 / rate * per_second), Fraction(1, per_second)) == (rate, False)


def test_rate_is_found_behind_milliseconds_in_a_finer_clock():
    ticks = np.array([round(i * 1000 / 30) * 90 for i in range(500)])  # MKV copied into MPEG-TS
    assert find_frame_rate(ticks, 1_500_000, Fraction(1, 90000)) == (30, False)


def test_a_wrong_hint_is_not_believed():
    ticks = np.arange(100) * 512
    assert find_frame_rate(ticks, 51200, Fraction(1, 15360), [Fraction(60), NTSC, None]) == (30, False)


def test_pictures_of_a_camera_that_waits_have_a_rate() -> None:
    """Three pictures in 102 seconds, with a gap of 1 s and one of 100 s: neither is usual, nor is their mean."""
    assert find_frame_rate(np.array([0, 1000, 101_000]), 102_000, Fraction(1, 1000)) == (Fraction(3, 102), True)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("charades.mp4", (30.6973, 0, 480, 270, 0, Fraction(15000, 1001), False, "h264")),
        ("first_pts_1.075s.mp4", (0.96, 1.075, 480, 320, 0, Fraction(25), False, "mpeg4")),
        ("first_pts_8.33s.mp4", (0.4, 8.333, 200, 112, 0, Fraction(30), False, "h264")),
        ("nature_24s.mp4", (24.024, 0, 1280, 720, 0, NTSC, False, "h264")),
        ("pancake.mkv", (10.333, 0, 426, 240, 0, Fraction(30), False, "h264")),
        ("rotated_90.mp4", (10.01, 0, 544, 1280, 90, NTSC_FILM, False, "h264")),
        ("testsrc_vp9.webm", (1, 0, 1280, 720, 0, Fraction(30), False, "vp9")),
        ("variable_frame_rate.mp4", (10.01, 0, 1280, 544, 0, Fraction(16000, 1001), True, "h264")),
    ],
)
def test_real_videos(name, facts):
    info = probe(shared_file(f"media/{name}"))
    duration, start, *rest = facts
    assert (info.duration, info.start) == (pytest.approx(duration, abs=1e-4), pytest.approx(start, abs=1e-4))
    assert [info.width, info.height, info.rotation, info.frame_rate, info.variable_frame_rate, info.codec] == rest
