"""Seconds to sample a 720p30 video, with each kind of sampling and with FFmpeg, interleaved in one run.

FFmpeg decodes as its command line does: one decoder with frame threads, and the filters fps, scale and crop. It runs
in this process, as the same FFmpeg build; ``--ffmpeg`` also measures a command line. Videos are drawn and encoded on
the first run and kept in a folder. Prints two Markdown tables: seconds (median, lowest to highest), and the distance of
the picked frames from the centers of their intervals.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder writes to stderr by itself; 1: errors only

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from r2tuning.types import FrameBatch
from r2tuning.video import sample_frames
from r2tuning.video.preprocess import scaled_size
from r2tuning.video.sample import FrameStream

WIDTH, HEIGHT, RATE, SIZE = 1280, 720, 30, 224

# Name → encoder and options; groups of pictures have the encoder's default length, unless the name says otherwise.
VIDEOS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "medium", "crf": "23"}),
    "h264-2s-groups": ("libx264", {"preset": "medium", "crf": "23", "g": "60"}),
    "h264-one-group": ("libx264", {"preset": "medium", "crf": "23", "g": "100000", "sc_threshold": "0"}),
    "hevc": ("libx265", {"preset": "fast", "crf": "26", "x265-params": "log-level=error"}),
    "vp9": ("libvpx-vp9", {"deadline": "good", "cpu-used": "5", "row-mt": "1", "b": "2M", "g": "240"}),
    "av1": ("libsvtav1", {"preset": "10", "crf": "35", "g": "240"}),
}


def write_video(path: Path, codec: str, options: dict[str, str], seconds: int) -> None:
    """Soft texture that pans, under noise and boxes that move; the scene changes every 17 seconds."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 200, (HEIGHT // 8 + 30, WIDTH // 8 + 160, 3)).astype(np.uint8)
    texture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    for axis in (0, 1):
        texture = np.mean([np.roll(texture, shift, axis) for shift in range(8)], axis=0).astype(np.uint8)
    noise = random.integers(0, 12, (4, HEIGHT, WIDTH, 1)).astype(np.uint8)
    unfinished = path.with_name("unfinished" + path.suffix)
    with av.open(str(unfinished), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(seconds * RATE):
            x, y = (i * 3) % 1270, int(110 + 100 * np.sin(i / 40))
            image = texture[y : y + HEIGHT, x : x + WIDTH] + noise[i % 4]
            image = np.roll(image, i // (17 * RATE), axis=2)
            for box in range(5):
                left, top = int(600 + 550 * np.sin(i / 30 + box)), int(300 + 250 * np.cos(i / 23 + 2 * box))
                image[top : top + 80, left : left + 80] = (box * 50, 255 - box * 40, i % 255)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    unfinished.replace(path)


def describe_filters(fps: Fraction) -> dict[str, str]:
    """FFmpeg's filters and their settings."""
    width, height = scaled_size(WIDTH, HEIGHT, SIZE)
    return {
        "fps": f"{fps}:round=near",
        "scale": f"w={width}:h={height}:flags=bicubic+accurate_rnd+full_chroma_int",
        "crop": f"w={SIZE}:h={SIZE}",
        "format": "pix_fmts=rgb24",
    }


def run_ffmpeg(path: Path, fps: Fraction) -> int:
    """Samples as ``ffmpeg -i PATH -vf fps=…,scale=…,crop=… -f rawvideo`` does; returns the number of frames."""
    frames = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream, time_base=stream.time_base)
        filters = [*(graph.add(*described) for described in describe_filters(fps).items()), graph.add("buffersink")]
        for one, following in zip([source, *filters], filters, strict=False):
            one.link_to(following)
        graph.configure()
        for packet in container.demux(stream):
            for frame in [*packet.decode(), *([] if packet.size else [None])]:
                graph.vpush(frame)
                frames += pull_all(graph)
    return frames


def pull_all(graph: av.filter.Graph) -> int:
    """Takes the frames that a graph has ready; returns their number."""
    frames = 0
    with suppress(av.error.BlockingIOError, av.error.EOFError):
        while graph.vpull().to_ndarray().shape == (SIZE, SIZE, 3):
            frames += 1
    return frames


def run_in_order(path: Path, fps: Fraction) -> list[FrameBatch]:
    """Samples exactly, by decoding every frame in order."""
    stream = sample_frames(path, float(fps))
    stream._survey = replace(stream._survey, index=None)
    return list(stream)


def runner(sampling: str) -> Callable[[Path, Fraction], list[FrameBatch]]:
    def run(path: Path, fps: Fraction) -> list[FrameBatch]:
        stream: FrameStream = sample_frames(path, float(fps), sampling=sampling)  # type: ignore[arg-type]
        return list(stream)

    return run


def command_line(binary: str) -> Callable[[Path, Fraction], object]:
    def run(path: Path, fps: Fraction) -> None:
        filters = ",".join(f"{name}={settings}" for name, settings in describe_filters(fps).items())
        options = f"-v error -nostdin -i PATH -vf {filters} -f rawvideo -y {os.devnull}".split()
        subprocess.run([binary, *(str(path) if option == "PATH" else option for option in options)], check=True)

    return run


Ways = dict[str, Callable[[Path, Fraction], object]]

WAYS: Ways = {
    "FFmpeg": run_ffmpeg,
    "in order": run_in_order,
    "exact": runner("exact"),
    "fast": runner("fast"),
    "keyframe": runner("keyframe"),
}


def measure(ways: Ways, path: Path, fps: Fraction, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; the ways take turns, so that a slow minute affects all of them."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            began = time.perf_counter()
            run(path, fps)
            seconds[way].append(time.perf_counter() - began)
    return seconds


def find_offsets(batches: list[FrameBatch], fps: Fraction) -> NDArray[np.float64]:
    """Seconds from the center of each interval to the frame picked for it."""
    times = np.concatenate([batch.times for batch in batches])
    offsets: NDArray[np.float64] = np.abs(times - (np.arange(len(times)) + 0.5) / float(fps))
    return offsets


def check_pixels(path: Path, fps: Fraction) -> None:
    exact, in_order = runner("exact")(path, fps), run_in_order(path, fps)
    same = all(np.array_equal(a.pixels, b.pixels) for a, b in zip(exact, in_order, strict=True))
    if not same:
        sys.exit(f"{path}: exact sampling does not give the pixels of decoding in order")


def main() -> None:
    """Writes missing videos, measures, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="length of the videos")
    parser.add_argument("--fps", type=Fraction, default=Fraction(1), help="frames to sample per second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", nargs="+", choices=VIDEOS, default=list(VIDEOS))
    parser.add_argument("--ffmpeg", metavar="PATH", help="a command line to measure as well")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "r2tuning-bench-decode")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    ways = ({"command line": command_line(options.ffmpeg)} if options.ffmpeg else {}) | WAYS
    beside = [way for way in ("command line", "FFmpeg") if way in ways]
    rows, offsets = [], []
    for name in options.videos:
        path = options.cache / f"{name}-{options.seconds}s.mkv"
        if not path.exists():
            print(f"writing {path}", file=sys.stderr)
            write_video(path, *VIDEOS[name], options.seconds)
        check_pixels(path, options.fps)
        seconds = measure(ways, path, options.fps, options.rounds)
        medians = {way: statistics.median(seconds[way]) for way in ways}
        cells = [f"{medians[way]:.2f} ({min(seconds[way]):.2f}-{max(seconds[way]):.2f})" for way in ways]
        rows.append([name, *cells, *(f"{medians[way] / medians['exact']:.2f}" for way in beside)])
        found = [find_offsets(runner(way)(path, options.fps), options.fps) for way in ("exact", "fast", "keyframe")]
        offsets.append([name, *(f"{offset.mean():.2f}, at most {offset.max():.2f}" for offset in found)])
    print(f"Seconds for {options.seconds} s of 720p30 at {options.fps} frames/s, {options.rounds} rounds\n")
    print_table(["video", *ways, *(f"{way} / exact" for way in beside)], rows)
    print("\nSeconds from the center of an interval to the frame picked for it\n")
    print_table(["video", "exact", "fast", "keyframe"], offsets)


def print_table(head: list[str], rows: list[list[str]]) -> None:
    for row in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
