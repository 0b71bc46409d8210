"""Spans joined into one video: every frame once, in order, and sound that stays where it belongs."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import mark_frame, read_index, see_and_hear, write_flashes, write_video

from r2tuning.errors import OutputError, VideoError, VideoWarning
from r2tuning.intervals import merge_spans
from r2tuning.output.media.cut import join
from r2tuning.video import probe

FPS = 30000 / 1001


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Eleven seconds with a flash and a beep in each, and when its frames are shown."""
    path = tmp_path_factory.mktemp("reel") / "a.mp4"
    times = write_flashes(path, frames=330, fps=Fraction(30000, 1001), gop=30)
    return path, times


def test_ten_spans_stay_in_sync_to_the_end(video: tuple[Path, list[float]], tmp_path: Path) -> None:
    path, shown = video
    spans = [(second - 0.137, second + 0.291) for second in range(1, 11)]
    asked = [number for number, time in enumerate(shown) if any(start <= time < end for start, end in spans)]
    calls: list[tuple[int, int]] = []
    join([(str(path), spans)], tmp_path / "reel.mp4", force=False, progress=lambda *call: calls.append(call))
    reel = see_and_hear(tmp_path / "reel.mp4")
    assert reel.frames == asked
    assert reel.times == pytest.approx([place / FPS for place in range(len(asked))], abs=0.001)
    assert len(reel.flashes) == len(reel.beeps) == 10
    assert np.abs(np.subtract(reel.beeps, reel.flashes)).max() < 0.02
    assert reel.sound == pytest.approx((0, len(asked) / FPS), abs=0.03)
    assert calls == [(number, len(asked)) for number in range(1, len(asked) + 1)]
    assert not probe(tmp_path / "reel.mp4").variable_frame_rate


def test_spans_come_in_the_order_of_time_and_what_they_share_once(
    video: tuple[Path, list[float]], tmp_path: Path
) -> None:
    path, shown = video
    join([(str(path), [(4, 4.5), (1, 2), (4.3, 5), (2, 2.2)])], tmp_path / "reel.mp4", force=False)
    asked = [number for number, time in enumerate(shown) if 1 <= time < 2.2 or 4 <= time < 5]
    assert see_and_hear(tmp_path / "reel.mp4").frames == asked


def test_joins_do_not_click(tmp_path: Path) -> None:
    write_flashes(tmp_path / "hum.mp4", frames=100, hum=True)
    spans = [(s, s + 0.2) for s in (0.5, 1.04, 1.68, 2.44, 3.08)]
    join([(str(tmp_path / "hum.mp4"), spans)], tmp_path / "r.mp4", force=False)
    with av.open(str(tmp_path / "r.mp4")) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.abs(samples).max() > 0.4
    assert np.abs(np.diff(samples)).max() < 0.05  # the hum itself rises by 0.007 from sample to sample


def test_ctrl_c_leaves_nothing(video: tuple[Path, list[float]], tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 20:
            assert len(list(tmp_path.iterdir())) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        join([(str(video[0]), [(0, 1), (2, 3)])], tmp_path / "reel.mp4", force=False, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_joined(video: tuple[Path, list[float]], tmp_path: Path) -> None:
    target = tmp_path / "reel.mp4"
    with pytest.raises(ValueError, match="there are no spans"):
        join([(str(video[0]), [])], target, force=False)
    with pytest.raises(ValueError, match="there are no spans"):
        join([], target, force=False)
    with pytest.raises(ValueError, match="must end after it starts"):
        join([(str(video[0]), [(0, 1), (3, 2)])], target, force=False)
    with pytest.raises(VideoError, match="shows nothing from 50"):
        join([(str(video[0]), [(0, 1), (50, 51)])], target, force=False)
    with pytest.raises(VideoError, match="does not exist"):
        join([(str(tmp_path / "none.mp4"), [(0, 1)])], target, force=False)
    assert list(tmp_path.iterdir()) == []
    target.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        join([(str(video[0]), [(0, 1)])], target, force=False)
    join([(str(video[0]), [(0, 0.1)])], target, force=True)
    assert len(see_and_hear(target).frames) == 3


def test_spans_that_touch_become_one() -> None:
    assert merge_spans([(3, 4), (0, 1), (1, 2), (3.5, 3.6)]) == [(0, 2), (3, 4)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Wide with sound; upright by rotation, faster and silent; small, slow, with other sound, in another container."""
    folder = tmp_path_factory.mktemp("mixed")
    write_flashes(folder / "wide.mp4", frames=100, size=(192, 96))
    write_video(folder / "upright.mp4", frames=90, fps=Fraction(30000, 1001), size=(90, 160), rotation=90)
    write_flashes(folder / "small.mkv", frames=40, fps=10, size=(64, 48), hertz=32000)
    return [folder / name for name in ("wide.mp4", "upright.mp4", "small.mkv")]


def test_videos_of_any_kind_become_one_file(mixed: list[Path], tmp_path: Path) -> None:
    reel = tmp_path / "reel.mp4"
    calls: list[tuple[int, int]] = []
    spans = [[(0.9, 1.5), (1.4, 2.2), (3, 3.4)], [(0.5, 1.5)], [(1, 3)]]
    join(list(zip(map(str, mixed), spans, strict=True)), reel, force=False, progress=lambda *call: calls.append(call))
    shown = [[*range(23, 55), *range(75, 85)], [n for n in range(90) if 0.5 <= n * 1001 / 30000 < 1.5], range(10, 30)]
    count = sum(map(len, shown))
    assert calls == [(number, count) for number in range(1, count + 1)]
    # One stream of pictures and one of sound, as a player reads them; every packet is one frame.
    lengths = [length for frames, rate in zip(shown, (25, FPS, 10), strict=True) for length in [1 / rate] * len(frames)]
    with av.open(str(reel)) as container:
        (video,), (sound,) = container.streams.video, container.streams.audio
        packets = [packet for packet in container.demux(video) if packet.pts is not None]
        assert [float(packet.pts * packet.time_base) for packet in packets] == pytest.approx(
            np.cumsum([0, *lengths[:-1]]).tolist(), abs=1e-4
        )
        assert [float(packet.duration * packet.time_base) for packet in packets] == pytest.approx(lengths, abs=1e-4)
        assert float(video.duration * video.time_base) == pytest.approx(sum(lengths), abs=1e-3)
        assert float(sound.duration * sound.time_base) == pytest.approx(sum(lengths), abs=0.03)
        assert (video.width, video.height, sound.rate, sound.channels) == (192, 96, 48000, 1)
        assert (video.codec_context.colorspace, video.codec_context.color_range) == (1, 1)
        container.seek(0)
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video)]
    # The middles of the pictures, as large as their heights allow: 96 lines, 96 / 160 of 90 columns, 96 lines.
    numbers = []
    for image, side in zip(images, [96] * len(shown[0]) + [54] * len(shown[1]) + [96] * len(shown[2]), strict=True):
        top, left = (96 - side) // 2, (192 - side) // 2
        numbers.append(read_index(image[top : top + side, left : left + side].transpose(2, 0, 1)))
    assert numbers == [number for frames in shown for number in frames]
    wide, upright, small = (images[place] for place in (5, len(shown[0]) + 5, -5))
    for image, (left, right) in ((wide, (0, 192)), (upright, (69, 123)), (small, (32, 160))):
        lit = image.max(axis=(0, 2)) > 12
        assert (lit[left + 2 : right - 2]).all()
        assert not lit[: max(0, left - 2)].any()
        assert not lit[right + 2 :].any()


def test_sound_stays_with_its_pictures_across_videos(mixed: list[Path], tmp_path: Path) -> None:
    wide, upright, small = map(str, mixed)
    join([(small, [(0.5, 2.5)]), (upright, [(0, 1)]), (wide, [(0.5, 3.5)])], tmp_path / "reel.mp4", force=False)
    with av.open(str(tmp_path / "reel.mp4")) as container:
        blocks = [(frame.time, np.abs(frame.to_ndarray()[0]), frame.sample_rate) for frame in container.decode(audio=0)]
    loud = np.concatenate([time + np.flatnonzero(block > 0.3) / rate for time, block, rate in blocks])
    beeps = loud[np.diff(loud, prepend=-1) > 0.2]
    # Seconds 1 and 2 of the small video; the silent one lasts 30 frames; then seconds 1, 2 and 3 of the wide one.
    silent = 2 + 30 / FPS
    assert beeps.tolist() == pytest.approx([0.5, 1.5, silent + 0.5, silent + 1.5, silent + 2.5], abs=0.02)


def test_colors_of_other_matrices_stay(tmp_path: Path) -> None:
    for name, matrix in (("a", 6), ("b", 1)):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=5, options={"crf": "4"})
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1
            red = av.VideoFrame.from_ndarray(np.full((64, 64, 3), (200, 40, 60), np.uint8), format="rgb24")
            for number in range(5):
                frame = red.reformat(format="yuv420p", dst_colorspace=5 if matrix == 6 else 1)
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    join([(str(tmp_path / f"{name}.mp4"), [(0, 1)]) for name in "ab"], tmp_path / "reel.mp4", force=False)

    def read_colors(name: str, matrix: int) -> list[np.ndarray]:
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert not container.streams.audio
            pictures = [frame.to_ndarray(format="rgb24", src_colorspace=matrix) for frame in container.decode(video=0)]
        return [picture.reshape(-1, 3).mean(axis=0) for picture in pictures]

    colors = read_colors("reel", 1)
    assert len(colors) == 10
    np.testing.assert_allclose(colors, read_colors("a", 5) + read_colors("b", 1), atol=3)
    assert np.abs(np.subtract(read_colors("a", 1), read_colors("a", 5))).max() > 10  # what the wrong matrix would do


def test_hdr_beside_other_videos_is_told(tmp_path: Path) -> None:
    for name, transfer in (("hdr", 16), ("sdr", 1)):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=5)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.codec_context.color_trc = transfer
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(mark_frame(number, (64, 64)), format="rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    spans = [(str(tmp_path / f"{name}.mp4"), [(0, 1)]) for name in ("sdr", "hdr")]
    with pytest.warns(VideoWarning, match=r"hdr.mp4: its HDR colors look pale") as told:
        join(spans, tmp_path / "reel.mp4", force=False)
    assert len(told) == 1
