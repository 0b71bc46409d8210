"""Clips, GIFs and contact sheets show what a player shows of the video: its colors, its fields and its shape."""

import base64
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.browser import Browser, start_browser
from support.files import shared_file

from r2tuning.output.media import cut
from r2tuning.output.media.footage import Footage
from r2tuning.output.media.gif import write_gif
from r2tuning.output.media.picture import deinterlace, measure_aspect
from r2tuning.output.media.sheet import write_sheet
from r2tuning.results import Grounding
from r2tuning.types import Moment, Saliency

COLOR = (200, 60, 30)
"""sRGB of the flat pictures; far from grey, so that a wrong matrix shifts it by more than ten levels."""

# (matrix, primaries, transfer, range) by the numbers of H.273, Tables 2 to 4, and Kr and Kb of each matrix.
WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
KINDS = {
    "10-bit BT.709 in SD": ("yuv420p10le", (320, 240), (1, 1, 1, 1)),
    "10-bit BT.601 in HD": ("yuv420p10le", (1280, 720), (6, 6, 6, 1)),
    "8-bit BT.709 in SD": ("yuv420p", (320, 240), (1, 1, 1, 1)),
    "8-bit full range": ("yuv420p", (320, 240), (1, 1, 1, 2)),
    "8-bit 4:4:4 full range": ("yuv444p", (320, 240), (1, 1, 1, 2)),
    "4:4:4": ("yuv444p", (320, 240), (1, 1, 1, 1)),
    "10-bit 4:4:4": ("yuv444p10le", (320, 240), (1, 1, 1, 1)),
    "10-bit 4:2:2 full range": ("yuv422p10le", (320, 240), (1, 1, 1, 2)),
    "PQ": ("yuv420p10le", (320, 240), (9, 9, 16, 1)),
    "HLG": ("yuv420p10le", (320, 240), (9, 9, 18, 1)),
    "BT.2020": ("yuv420p10le", (320, 240), (9, 9, 14, 1)),
    "untagged SD": ("yuv420p", (320, 240), (2, 2, 2, 0)),
}


def compute_codes(matrix: int, full: bool, bits: int) -> tuple[int, int, int]:
    """Y, Cb and Cr of `COLOR` by H.273, equations 17 to 43."""
    kr, kb = WEIGHTS[matrix]
    red, green, blue = (value / 255 for value in COLOR)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    scale, top = 1 << (bits - 8), (1 << bits) - 1
    if full:
        return round(top * luma), *(round(top * value) + (128 * scale) for value in chroma)
    return round(scale * (219 * luma + 16)), *(round(scale * (224 * value + 128)) for value in chroma)


def write_flat(path: Path, pix_fmt: str, size: tuple[int, int], tags: tuple[int, int, int, int]) -> list[int]:
    """Writes a second of `COLOR` in H.264; returns the stored Y, Cb and Cr."""
    deep = "10" in pix_fmt
    codes = list(compute_codes(tags[0], tags[3] == 2, 10 if deep else 8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "8", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = tags
        for index in range(10):
            frame = av.VideoFrame(*size, pix_fmt)
            for plane, code in zip(frame.planes, codes, strict=True):
                plane.update(np.full(plane.buffer_size // (2 if deep else 1), code, "<u2" if deep else "u1").tobytes())
            frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = tags
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return codes


def read_first(path: Path) -> tuple[av.VideoFrame, list[float]]:
    """The first frame, and the mean of each of its planes."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    wide = frame.format.components[0].bits > 8
    planes = [np.frombuffer(plane, "<u2" if wide else "u1").reshape(plane.height, -1) for plane in frame.planes]
    return frame, [plane[:, : p.width].mean() for plane, p in zip(planes, frame.planes, strict=True)]


@pytest.fixture(scope="module", params=KINDS)
def flat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, list[int]]:
    path = tmp_path_factory.mktemp("flat") / "a.mp4"
    return request.param, path, write_flat(path, *KINDS[request.param])


def test_colors_keep_their_codes_and_tags(flat: tuple[str, Path, list[int]], tmp_path: Path) -> None:
    """The codes are those of H.273, which ``ffprobe -show_frames`` and ``ffmpeg -pix_fmt`` show too."""
    kind, path, codes = flat
    pix_fmt, _, tags = KINDS[kind]
    cut(str(path), 0.2, 0.8, tmp_path / "b.mp4")
    frame, means = read_first(tmp_path / "b.mp4")
    expected = pix_fmt.replace("422", "420")
    if tags[3] == 2 and "10" not in pix_fmt:
        expected = expected.replace("yuv", "yuvj")  # FFmpeg's old name of full range
    assert frame.format.name == expected
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == tags
    assert means == pytest.approx(codes, abs=2)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with start_browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


SEE = """
    const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
    const video = document.createElement("video");
    video.muted = true;
    video.src = URL.createObjectURL(new Blob([bytes], {type: "video/mp4"}));
    await new Promise((done, fail) => {
        video.onerror = () => fail(new Error(video.error.message));
        video.requestVideoFrameCallback(done);
        video.play();
    });
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const sums = [[0, 0, 0], [0, 0, 0]];
    pixels.forEach((value, place) => { if (place % 4 < 3) sums[(place >> 2) % canvas.width % 2][place % 4] += value; });
    const count = i => Math.floor((canvas.width + 1 - i) / 2) * canvas.height;
    return [[canvas.width, canvas.height], sums.map((sum, i) => sum.map(value => value / count(i)))];
"""


def see_columns(browser: Browser, path: Path) -> tuple[list[int], list[list[float]]]:
    """Width and height of a video in Chromium, and the mean RGB of its even and of its odd columns."""
    browser.open("about:blank")
    size, pixels = browser.run(SEE, base64.b64encode(path.read_bytes()).decode())
    return size, pixels


def see(browser: Browser, path: Path) -> tuple[list[int], list[float]]:
    """Width and height of a video in Chromium, and the mean of its RGB; the width is even."""
    size, pixels = see_columns(browser, path)
    return size, np.mean(pixels, axis=0).tolist()


def test_colors_in_a_browser(flat: tuple[str, Path, list[int]], browser: Browser, tmp_path: Path) -> None:
    """A browser guesses the matrix of a clip without tags by its size; FFmpeg never shows that."""
    kind, path, _ = flat
    cut(str(path), 0.2, 0.8, tmp_path / "b.mp4")
    size, pixel = see(browser, tmp_path / "b.mp4")
    assert (size, pixel) == (list(KINDS[kind][1]), pytest.approx(see(browser, path)[1], abs=2))
    if KINDS[kind][2][1] != 9:  # else Chromium maps the wide gamut to the screen's
        assert pixel == pytest.approx(COLOR, abs=4)


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le"])
def test_color_of_every_pixel_stays(pix_fmt: str, browser: Browser, tmp_path: Path) -> None:
    """Red and blue columns one pixel wide, as in small letters: 4:2:0 would make them purple; also at an odd size."""
    image = np.full((99, 161, 3), (230, 40, 40), np.uint8)
    image[:, 1::2] = 40, 40, 230
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 161, 99, pix_fmt
        stream.codec_context.colorspace = stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(image).reformat(format=pix_fmt, dst_colorspace="ITU709")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    cut(str(tmp_path / "a.mp4"), 0.2, 0.8, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        stored = next(container.decode(video=0))
        assert stored.format.name == pix_fmt
        shown = stored.to_ndarray(format="rgb24").astype(int)
    assert np.abs(shown - image).mean() < 8
    size, columns = see_columns(browser, tmp_path / "b.mp4")
    assert size == [161, 99]
    assert columns == [pytest.approx((230, 40, 40), abs=20), pytest.approx((40, 40, 230), abs=20)]


def test_ten_bits_of_hevc_stay(browser: Browser, tmp_path: Path) -> None:
    """The matrix of BT.709, as in ``ffmpeg -i 05… -vf scale=in_color_matrix=bt709,format=rgb24``."""
    path = shared_file("bugs/05_ten_bit_bt709.mp4")
    cut(str(path), 0.2, 0.8, tmp_path / "b.mp4")
    frame, means = read_first(tmp_path / "b.mp4")
    assert (frame.format.name, frame.colorspace, frame.color_primaries) == ("yuv420p10le", 1, 1)
    with av.open(str(path)) as container:
        stored = next(f for f in container.decode(video=0) if f.time >= 0.2)
    luma = np.frombuffer(stored.planes[0], "<u2").reshape(stored.height, -1)[:, : stored.width]
    assert means[0] == pytest.approx(luma.mean(), abs=1)
    planes = [np.frombuffer(p, "<u2").reshape(p.height, -1)[:, : p.width] / 4 for p in stored.planes]
    y, u, v = (planes[0] - 16) / 219, *((p.repeat(2, 0).repeat(2, 1) - 128) / 224 for p in planes[1:])
    rgb = np.clip([y + 1.5748 * v, y - 0.18732 * u - 0.46812 * v, y + 1.8556 * u], 0, 1) * 255  # H.273, BT.709
    # A green at the edge of what there is: (0, 255, 0). The matrix of BT.601 would make it (20, 255, 8).
    assert see(browser, tmp_path / "b.mp4")[1] == pytest.approx(rgb.mean(axis=(1, 2)).tolist(), abs=10)


def ask(path: Path, start: float, end: float) -> Grounding:
    curve = Saliency(np.zeros(0), np.zeros(0))
    return Grounding("a dog", str(path), 1.0, 0.0, [Moment(start, end, 0.9)], curve, "demo", "exact")


def test_pictures_have_the_right_matrix(flat: tuple[str, Path, list[int]], tmp_path: Path) -> None:
    kind, path, _ = flat
    write_gif(str(path), 0.2, 0.5, tmp_path / "b.gif")
    write_sheet([ask(path, 0.2, 0.8)], tmp_path / "b.png")
    for name in ("b.gif", "b.png"):
        with av.open(str(tmp_path / name)) as container:
            image = next(container.decode(video=0)).to_ndarray(format="rgb24")
        # The sheet is mostly white; no other part of it is this red.
        distance = np.abs(image.astype(int) - COLOR).max(axis=-1).min()
        assert distance <= 4, (kind, name)


def write_fields(path: Path, top_first: bool) -> None:
    """A bar that moves in every field, which makes combs in frames."""
    with av.open(str(path), "w") as container:
        order = "tff=1" if top_first else "bff=1"
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "x264-params": order})
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv420p"
        for index in range(20):
            image = np.full((96, 192, 3), 40, np.uint8)
            for field in (0, 1):
                left = 10 + 6 * index + 3 * field
                rows = slice(field if top_first else 1 - field, None, 2)
                image[rows, left : left + 24] = 220
            frame = av.VideoFrame.from_ndarray(image).reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def measure_combs(path: Path) -> tuple[float, bool, int]:
    """Mean distance of lines from the mean of their neighbours; whether frames are flagged; how many there are."""
    combs, flags = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            luma = frame.to_ndarray(format="gray").astype(float)
            combs.append(np.abs(luma[1:-1] - (luma[:-2] + luma[2:]) / 2).mean())
            flags.append(frame.interlaced_frame)
    return float(np.mean(combs)), any(flags), len(combs)


@pytest.mark.parametrize("top_first", [True, False])
def test_interlaced_frames_are_deinterlaced(tmp_path: Path, top_first: bool) -> None:
    write_fields(tmp_path / "a.mp4", top_first)
    before, flagged, count = measure_combs(tmp_path / "a.mp4")
    assert (flagged, count) == (True, 20)
    cut(str(tmp_path / "a.mp4"), 0, 9, tmp_path / "b.mp4")
    after, flagged, count = measure_combs(tmp_path / "b.mp4")
    assert (flagged, count) == (False, 20)
    assert before > 10 * after
    cut(str(tmp_path / "a.mp4"), 0, 9, tmp_path / "c.mp4", exact=False)
    assert measure_combs(tmp_path / "c.mp4")[1:] == (True, 20)  # flagged as it was


def test_the_interlaced_sample(tmp_path: Path) -> None:
    """``ffmpeg -i 13… -vf bwdif=send_frame`` gives 25 frames, none of them interlaced."""
    path = shared_file("bugs/13_interlaced_tff.mp4")
    cut(str(path), 0, 9, tmp_path / "b.mp4")
    before, after = measure_combs(path), measure_combs(tmp_path / "b.mp4")
    assert (before[1:], after[1:]) == ((True, 25), (False, 25))
    assert after[0] < before[0] / 2


def test_deinterlacing_keeps_every_frame_and_its_time(tmp_path: Path) -> None:
    write_fields(tmp_path / "a.mp4", top_first=True)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [frame.pts * frame.time_base * 25 for frame in deinterlace(container.decode(video=0))] == [*range(20)]


def test_a_shape_that_changes_midway_gets_bars(tmp_path: Path) -> None:
    """``ffprobe -show_frames 12…``: 40 frames of 12:11, then 40 of 16:11, so that 3/4 of the height remains."""
    path = shared_file("bugs/12_aspect_changes.ts")
    with av.open(str(path)) as container:
        aspects = [measure_aspect(frame) for frame in container.decode(video=0)]
    assert [(a, len([*g])) for a, g in itertools.groupby(aspects)] == [(Fraction(12, 11), 40), (Fraction(16, 11), 40)]
    footage = Footage(path)
    cut(footage, 0, 9, tmp_path / "both.mp4")
    cut(footage, 2.0, 9, tmp_path / "second.mp4")
    with av.open(str(tmp_path / "both.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(12, 11)
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    lit = [np.flatnonzero(image.mean(axis=(1, 2)) > 6) for image in images]
    assert [(rows[0], rows[-1]) for rows in (lit[0], lit[39])] == [(0, 143)] * 2
    assert [(rows[0], rows[-1]) for rows in (lit[42], lit[-1])] == [pytest.approx((18, 125), abs=1)] * 2
    with av.open(str(tmp_path / "second.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)
        rows = np.flatnonzero(next(container.decode(video=0)).to_ndarray(format="gray").mean(axis=1) > 20)
        assert (rows[0], rows[-1]) == (0, 143)


def test_rgb_becomes_bt709_and_says_so(browser: Browser, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "bgr24"
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), COLOR, np.uint8)).reformat(format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    cut(str(tmp_path / "a.mkv"), 0.2, 0.8, tmp_path / "b.mp4")
    frame, means = read_first(tmp_path / "b.mp4")
    assert (frame.colorspace, frame.color_primaries, frame.color_range) == (1, 1, 1)
    assert means == pytest.approx(compute_codes(1, False, 8), abs=1)
    assert see(browser, tmp_path / "b.mp4")[1] == pytest.approx(COLOR, abs=4)


def test_a_matrix_that_ffmpeg_cannot_convert_stays(tmp_path: Path) -> None:
    """BT.2020 with constant luminance is 10: the codes are copied, and only pictures in RGB are approximate."""
    write_flat(tmp_path / "a.mp4", "yuv420p10le", (320, 240), (9, 9, 14, 1))
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "b.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p10le"
        stream.codec_context.colorspace = 10
        for frame in source.decode(video=0):
            frame.colorspace = 10
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    cut(str(tmp_path / "b.mkv"), 0.2, 0.8, tmp_path / "c.mp4")
    write_gif(str(tmp_path / "b.mkv"), 0.2, 0.8, tmp_path / "c.gif")
    frame, means = read_first(tmp_path / "c.mp4")
    assert frame.colorspace == 10
    assert means == pytest.approx(compute_codes(9, False, 10), abs=2)
