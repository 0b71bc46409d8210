"""Clips hold the frames that were asked for and their sound; both are read back from pixels and samples."""

import itertools
import signal
import unicodedata
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files import shared_file
from support.videos import SIZE, Heard, see_and_hear, write_flashes, write_video

from r2tuning.errors import OutputError, VideoError, VideoWarning
from r2tuning.output.media import cut
from r2tuning.output.media import mp4 as mp4_module
from r2tuning.output.media.cut import name_clip, time_decoding
from r2tuning.output.media.footage import Footage
from r2tuning.video import probe

IN_SYNC = 0.05  # seconds

NTSC_FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)
UNEVEN = list(itertools.accumulate(itertools.islice(itertools.cycle([33, 40, 50, 21]), 120), initial=0))
VARIABLE = [Fraction(millisecond, 1000) for millisecond in UNEVEN]

KINDS = {
    "23.976": ("a.mp4", {"fps": NTSC_FILM}),
    "25": ("a.mp4", {"fps": 25}),
    "29.97": ("a.mp4", {"fps": NTSC}),
    "variable rate": ("a.mp4", {"times": VARIABLE}),
    "variable rate, MKV": ("a.mkv", {"times": VARIABLE}),
    "29.97 in milliseconds": ("a.mkv", {"fps": NTSC}),
    "delayed start": ("a.mp4", {"start": 3.25}),
    "upside down": ("a.mp4", {"rotation": 180}),
    "no sound": ("a.mp4", {"sound": None}),
    "10 bits": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "WebM": ("a.webm", {"codec": "libvpx-vp9", "sound": "libopus", "hertz": 48000}),
    "PCM": ("a.mov", {"sound": "pcm_s16le"}),
    "rare key frames": ("a.mp4", {"gop": 250}),
}


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A video of about five seconds, and when each of its frames is shown."""
    name, options = KINDS[request.param]
    path = tmp_path_factory.mktemp("made") / name
    return path, write_flashes(path, frames=121, **options)


def assert_in_sync(clip: Heard) -> None:
    assert clip.flashes
    if clip.sound is not None:
        assert len(clip.beeps) == len(clip.flashes)
        assert np.abs(np.subtract(clip.beeps, clip.flashes)).max() < IN_SYNC


def test_exact_clips_have_the_frames_asked_for(made: tuple[Path, list[float]], tmp_path: Path) -> None:
    path, shown = made
    start, end = shown[0] + 1.31, shown[0] + 3.77
    asked = [number for number, time in enumerate(shown) if start <= time < end]
    begins = cut(str(path), start, end, tmp_path / "clip.mp4")
    clip = see_and_hear(tmp_path / "clip.mp4")
    assert clip.frames == asked
    assert begins == pytest.approx(shown[asked[0]], abs=0.001)
    assert clip.times == pytest.approx([shown[i] - shown[asked[0]] for i in asked], abs=0.0015)
    assert len(clip.flashes) == 2
    assert_in_sync(clip)
    if clip.sound is not None:  # the sound is as long as the pictures, but for the encoder's last block
        length = shown[asked[-1] + 1] - shown[asked[0]]
        assert clip.sound == pytest.approx((0, length), abs=0.03)
    source, result = probe(path), probe(tmp_path / "clip.mp4")
    assert (result.codec, result.start) == ("h264", 0)
    assert (result.width, result.height, result.rotation) == (source.width, source.height, source.rotation)
    assert result.duration == pytest.approx(shown[asked[-1] + 1] - shown[asked[0]], abs=0.002)
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


def test_fast_clips_begin_at_a_key_frame_and_stay_in_sync(made: tuple[Path, list[float]], tmp_path: Path) -> None:
    path, shown = made
    start, end = shown[0] + 1.31, shown[0] + 3.77
    asked = [number for number, time in enumerate(shown) if start <= time < end]
    begins = cut(str(path), start, end, tmp_path / "clip.mp4", exact=False)
    clip = see_and_hear(tmp_path / "clip.mp4")
    assert begins == pytest.approx(shown[clip.frames[0]], abs=0.001)
    assert clip.frames[0] <= asked[0] < clip.frames[0] + 251
    assert set(asked) <= set(clip.frames)
    assert clip.frames == sorted(clip.frames)
    assert clip.frames[-1] <= asked[-1] + 4
    assert clip.times == pytest.approx([shown[i] - begins for i in clip.frames], abs=0.0015)
    source, result = probe(path), probe(tmp_path / "clip.mp4")
    assert (result.codec, result.rotation) == (source.codec, source.rotation)
    if clip.sound is not None:
        assert clip.sound == pytest.approx((0, end - begins), abs=0.06)
        heard = [flash for flash in clip.flashes if flash < clip.sound[1]]
        assert len(heard) == len(clip.beeps)
        assert np.abs(np.subtract(clip.beeps, heard)).max() < IN_SYNC


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """125 frames, 5 seconds."""
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    write_flashes(path, frames=125)
    return path


def frames_of(path: Path) -> list[int]:
    return see_and_hear(path).frames


def test_spans_at_the_edges(video: Path, tmp_path: Path) -> None:
    footage = Footage(video)
    for name, span, frames in [
        ("whole", (-10, 100), range(125)),
        ("first frame", (0, 0.04), range(1)),
        ("last frame", (4.96, 5), range(124, 125)),
        ("end is not in it", (1, 2), range(25, 50)),
        ("given in milliseconds", (1.0004, 1.9996), range(25, 50)),
        ("between two frames", (1.01, 1.02), range(25, 26)),
    ]:
        cut(footage, *span, tmp_path / f"{name}.mp4")
        assert frames_of(tmp_path / f"{name}.mp4") == list(frames), name


def test_what_is_on_the_screen_for_long_belongs_to_the_span(tmp_path: Path) -> None:
    """Slides: frames 0 to 3 come on at 0, 1, 5 and 9 s."""
    write_flashes(tmp_path / "slides.mp4", frames=4, times=[0, 1, 5, 9], fps=25, sound=None)
    for number, (span, frames, length) in enumerate(
        [((2, 6), [1, 2], 4), ((2, 4), [1], 2), ((1, 5), [1], 4), ((4.9, 6), [2], 1)]
    ):
        cut(str(tmp_path / "slides.mp4"), *span, tmp_path / f"{number}.mp4")
        assert frames_of(tmp_path / f"{number}.mp4") == frames
        assert probe(tmp_path / f"{number}.mp4").duration == pytest.approx(length, abs=0.002)


def test_other_containers_exactly(tmp_path: Path) -> None:
    for name, options in {"a.avi": {"codec": "mpeg4", "sound": "pcm_s16le"}, "a.ts": {}, "a.flv": {}}.items():
        write_flashes(tmp_path / name, frames=100, **options)
        first = probe(tmp_path / name).start
        cut(str(tmp_path / name), first + 1.2, first + 2.8, tmp_path / f"{name}.mp4")
        clip = see_and_hear(tmp_path / f"{name}.mp4")
        assert clip.frames == list(range(30, 70)), name
        assert_in_sync(clip)
    with pytest.raises(VideoError, match="does not say when its frames are shown; cut it exactly, without --fast"):
        cut(str(tmp_path / "a.avi"), 1, 2, tmp_path / "b.mp4", exact=False)


def test_mpeg_ts_is_copied_into_mp4(tmp_path: Path) -> None:
    write_flashes(tmp_path / "a.ts", frames=100, start=2)
    cut(str(tmp_path / "a.ts"), 1.2, 2.8, tmp_path / "b.mp4", exact=False)
    clip = see_and_hear(tmp_path / "b.mp4")
    assert clip.frames[:1] == [24]
    assert np.abs(np.subtract(clip.beeps, clip.flashes)).max() < IN_SYNC


def test_what_mp4_does_not_take_is_not_copied(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.webm", frames=20, codec="libvpx")
    with pytest.raises(VideoError, match=r"a\.webm cannot be copied \(.*vp8.*\); cut it exactly, without --fast"):
        cut(str(path), 0.1, 0.5, tmp_path / "b.mp4", exact=False)
    cut(str(path), 0.1, 0.5, tmp_path / "b.mp4")
    assert frames_of(tmp_path / "b.mp4") == list(range(3, 15))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.webm", "b.mp4"]


def test_an_odd_size_loses_a_column_and_a_row(tmp_path: Path) -> None:
    size = SIZE[0] + 1, SIZE[1] + 1
    write_flashes(tmp_path / "a.mkv", frames=20, size=size, codec="ffv1")
    cut(str(tmp_path / "a.mkv"), 0.2, 0.6, tmp_path / "b.mp4")
    assert (probe(tmp_path / "b.mp4").width, probe(tmp_path / "b.mp4").height) == SIZE
    assert frames_of(tmp_path / "b.mp4") == list(range(5, 15))
    with av.open(str(tmp_path / "a.mkv")) as whole, av.open(str(tmp_path / "b.mp4")) as clip:
        before = next(frame for frame in whole.decode(video=0) if frame.time >= 0.2).to_ndarray(format="gray")
        after = next(clip.decode(video=0)).to_ndarray(format="gray")
    assert np.abs(before[:-1, :-1].astype(float) - after).mean() < 4  # cut off, not scaled


def test_sound_that_ends_early_leaves_silence(tmp_path: Path) -> None:
    write_flashes(tmp_path / "a.mp4", frames=100, sound_until=1.5)
    cut(str(tmp_path / "a.mp4"), 0.5, 3.5, tmp_path / "b.mp4")
    clip = see_and_hear(tmp_path / "b.mp4")
    assert clip.beeps == pytest.approx([0.5 - 0.02], abs=IN_SYNC)
    assert clip.sound == pytest.approx((0, 3), abs=0.03)


def test_without_x264_the_next_encoder_is_taken(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = mp4_module.Encoder("no-such-encoder", {})
    monkeypatch.setattr(mp4_module, "ENCODERS", (missing, mp4_module.ENCODERS[-1]))
    cut(str(video), 1, 3, tmp_path / "a.mp4")
    assert probe(tmp_path / "a.mp4").codec == "mpeg4"
    assert frames_of(tmp_path / "a.mp4") == list(range(25, 75))
    assert_in_sync(see_and_hear(tmp_path / "a.mp4"))
    monkeypatch.setattr(mp4_module, "ENCODERS", (missing,))
    with pytest.raises(OutputError, match="no video encoder for MP4"):
        cut(str(video), 1, 3, tmp_path / "b.mp4")


def test_nothing_is_overwritten_unless_asked(video: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    target.write_text("mine")
    with pytest.raises(OutputError, match="exists: choose another name, or replace it with --force"):
        cut(str(video), 1, 2, target)
    assert target.read_text() == "mine"
    cut(str(video), 1, 2, target, force=True)
    assert frames_of(target) == list(range(25, 50))


def test_spans_that_are_none(video: Path, tmp_path: Path) -> None:
    for start, end in [(2, 2), (3, 2), (float("nan"), 2), (0, float("inf"))]:
        with pytest.raises(ValueError, match="a span must end after it starts"):
            cut(str(video), start, end, tmp_path / "a.mp4")
    for start, end in [(5, 6), (-3, -1)]:
        with pytest.raises(VideoError, match=r"shows nothing from .* s; it runs from 0.000 s to 5.000 s"):
            cut(str(video), start, end, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exact", [True, False])
def test_a_full_disk_leaves_nothing_and_says_so(video: Path, tmp_path: Path, exact: bool) -> None:
    resource = pytest.importorskip("resource", reason="limits on file sizes are a matter of Unix")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
        with pytest.raises(OutputError, match=r"a\.mp4 cannot be written \(File too large\)") as caught:
            cut(str(video), 1, 4, tmp_path / "a.mp4", exact)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_damaged_frames_are_counted_and_the_rest_stays_in_place(video: Path, tmp_path: Path) -> None:
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos is not None and packet.size]
        places = {round(packet.pts * packet.time_base * 25): (packet.pos, packet.size) for packet in packets}
    data = bytearray(video.read_bytes())
    key = next(number for number in range(30, 70) if number % 12 == 0)
    for number in range(key, key + 4):
        position, size = places[number]
        data[position + 4 : position + size] = bytes(size - 4)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cut(str(damaged), 1, 4, tmp_path / "a.mp4")
    assert [w.category for w in caught] == [VideoWarning]
    assert str(caught[0].message).startswith(f"{damaged} is damaged: ")
    assert "of 75 frames cannot be decoded" in str(caught[0].message)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert float(list(container.decode(video=0))[-1].time) == pytest.approx(74 / 25)


def test_what_is_no_video_is_refused_in_one_line(video: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:3000])
    for path in (broken, tmp_path / "none.mp4", tmp_path):
        with pytest.raises(VideoError) as caught:
            cut(str(path), 0, 1, tmp_path / "a.mp4")
        assert str(path) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == [broken]


@given(st.lists(st.integers(-1000, 1000), unique=True))
def test_packets_are_decoded_in_order_and_before_they_are_shown(shown: list[int]) -> None:
    decoded = time_decoding(shown)
    assert all(before < after for before, after in itertools.pairwise(decoded))
    assert all(time <= own for time, own in zip(decoded, shown, strict=True))
    assert not shown or any(time == own for time, own in zip(decoded, shown, strict=True))


FORBIDDEN = set('<>:"/\\|?*')  # by Windows; the others forbid fewer


@given(
    st.text(st.characters(exclude_categories=[]), max_size=400),
    st.integers(1, 5000),
    st.floats(-10, 1e6),
    st.floats(0, 1e5),
)
def test_names_are_safe(query: str, number: int, start: float, length: float) -> None:
    name = name_clip(number, 5000, query, start, start + length)
    assert len(name.encode()) < 255  # which a lone half of a character would not survive
    assert not FORBIDDEN & set(name)
    assert all(unicodedata.category(c)[0] in "LMN" or c in "-." for c in name)
    assert name.startswith(f"{number:04d}-")  # so that no name is CON or NUL, and no two are equal
    assert name.endswith("s.mp4")
    assert Path(name).name == name


def test_names_can_be_read() -> None:
    assert name_clip(1, 3, "The dog catches", 12.3, 18) == "01-the-dog-catches-0m12.3s-0m18.0s.mp4"
    assert name_clip(2, 3, "Ein Hund läuft über die Straße.", 0, 60) == (
        "02-ein-hund-läuft-über-die-straße-0m00.0s-1m00.0s.mp4"
    )
    assert name_clip(3, 3, "一只狗在跑步", 59.96, 3600) == "03-一只狗在跑步-1m00.0s-1h00m00.0s.mp4"
    assert name_clip(4, 3, "कुत्ता दौड़ता है", 1, 2).startswith("04-कुत्ता-दौड़ता-है-")
    assert name_clip(1, 1, "../../etc/passwd\0\n", 1, 2) == "01-etc-passwd-0m01.0s-0m02.0s.mp4"
    assert name_clip(1, 1, "🐕💥\ud800", 1, 2) == "01-moment-0m01.0s-0m02.0s.mp4"


def test_joined_recordings_are_cut_with_their_sound(tmp_path: Path) -> None:
    """Two copies of four seconds, as ``cat a.ts a.ts`` joins them: a player shows eight."""
    write_flashes(tmp_path / "a.ts", frames=100)
    joined = tmp_path / "b.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    first = probe(joined).start
    cut(str(joined), first + 3.28, first + 5.88, tmp_path / "c.mp4")
    clip = see_and_hear(tmp_path / "c.mp4")
    assert clip.frames == [*range(82, 100), *range(47)]
    assert clip.times == pytest.approx([number / 25 for number in range(65)], abs=0.001)
    assert clip.flashes == pytest.approx([0.72, 1.72], abs=0.001)
    assert_in_sync(clip)
    cut(str(joined), first + 5.28, first + 7.8, tmp_path / "d.mp4", exact=False)
    clip = see_and_hear(tmp_path / "d.mp4")
    assert clip.frames == list(range(24, 96))
    assert_in_sync(clip)


@pytest.mark.parametrize(("name", "count"), [("01_clock_restarts.ts", 100), ("17_joins_overlap.ts", 80)])
@pytest.mark.parametrize("exact", [True, False])
def test_every_frame_of_the_joined_samples_is_cut(name: str, count: int, exact: bool, tmp_path: Path) -> None:
    """``ffmpeg -i 01… -f framemd5 -`` decodes 100 frames, and 80 of 17…, ten a second."""
    cut(str(shared_file(f"bugs/{name}")), 0, 99, tmp_path / "a.mp4", exact)
    with av.open(str(tmp_path / "a.mp4")) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert times == pytest.approx([number / 10 for number in range(count)], abs=0.001)


def test_hvc1_stays(tmp_path: Path) -> None:
    """``ffprobe -show_entries stream=codec_tag_string``: Apple's players take hvc1 and refuse hev1."""
    for name, tag in {"14_hvc1.mp4": "hvc1", "05_ten_bit_bt709.mp4": "hev1"}.items():
        cut(str(shared_file(f"bugs/{name}")), 0, 1, tmp_path / name, exact=False)
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].codec_context.codec_tag == tag


def test_what_the_muxer_refuses_does_not_ask_for_space(tmp_path: Path) -> None:
    """Raw pictures are no part of MP4."""
    path = tmp_path / "a.mkv"
    write_flashes(path, frames=20, codec="rawvideo", sound=None)
    with pytest.raises(VideoError) as caught:
        cut(str(path), 0.1, 0.5, tmp_path / "b.mp4", exact=False)
    assert "cut it exactly, without --fast" in str(caught.value)
    assert "space" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mkv"]
