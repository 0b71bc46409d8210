"""Makes a folder of videos with their annotations and a contact sheet."""

from __future__ import annotations

import io
import json
import os
import textwrap
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r2tuning.datasets.annotations import Annotation
from r2tuning.errors import OutputError
from r2tuning.files import guard, read_file, replace_file, write_atomically
from r2tuning.processes import Death, hold, map_in_processes
from r2tuning.synthetic.queries import describe, describe_absent, to_line
from r2tuning.synthetic.render import render
from r2tuning.synthetic.scenes import FPS, HEIGHT, WIDTH, WORLD_VERSION, Script, Split
from r2tuning.synthetic.staging import make_video

_QUALITY = "24"  # x264's constant rate factor: no visible artifacts, and well under 1 MB
_KEY_FRAMES = 5  # seconds between key frames at most; a cut has one too


def write_video(script: Script, path: str | os.PathLike[str]) -> None:
    """Draws and encodes a video as H.264 in an MP4 file; an existing file is replaced.

    Raises:
        OutputError: If the file cannot be written.
    """
    with replace_file(path) as temporary:
        _encode(script, temporary)


def is_written(script: Script, path: str | os.PathLike[str]) -> bool:
    """Whether the file is complete and shows this script, drawn by this version of the world."""
    try:
        with av.open(os.fspath(path)) as container:
            # A truncated file still has the right title.
            frames = sum(packet.size > 0 for packet in container.demux(video=0))
            return container.metadata.get("title") == _title(script) and frames == script.frames
    except (OSError, av.error.FFmpegError):  # missing or damaged
        return False


def _encode(script: Script, path: Path) -> None:
    # faststart: players and range requests find the index first. bitexact: no version of FFmpeg in the file.
    options = {"movflags": "faststart", "fflags": "bitexact"}
    with av.open(os.fspath(path), "w", format="mp4", options=options) as container:
        container.metadata["title"] = _title(script)
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": _QUALITY})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.codec_context.gop_size = _KEY_FRAMES * FPS
        # Videos are made side by side, and bytes must not depend on the number of cores.
        stream.codec_context.thread_count = 1
        for index in range(script.frames):
            frame = av.VideoFrame.from_ndarray(render(script, index / FPS), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _title(script: Script) -> str:
    return f"Moving Shapes {WORLD_VERSION} {script.vid}"


_MOST_SHOWN, _FRAMES, _DOTS = 8, 8, 100
_INSIDE, _OUTSIDE = "#D55E00", "#DDDDDD"
_WIDTH, _ROW, _TEXT, _MARGIN = 12.0, 1.34, 0.46, 0.15  # inches


def draw_preview(videos: Sequence[tuple[Script, Annotation]]) -> bytes:
    """A PNG file with a row of frames for each video and query; frames within its moments are highlighted."""
    block = _ROW + _TEXT
    height = len(videos) * block + 2 * _MARGIN
    figure = Figure(figsize=(_WIDTH, height), dpi=_DOTS, facecolor="white")
    FigureCanvasAgg(figure)
    for row, (script, annotation) in enumerate(videos):
        top = height - _MARGIN - row * block
        moments = ", ".join(f"{start:g} to {end:g} s" for start, end in annotation.moments)
        title = textwrap.shorten(annotation.query, 130, placeholder=" …")
        figure.text(_MARGIN / _WIDTH, (top - 0.2) / height, title, fontsize=10, parse_math=False)
        figure.text(1 - _MARGIN / _WIDTH, (top - 0.2) / height, moments, fontsize=9, color=_INSIDE, ha="right")
        width = (_WIDTH - 2 * _MARGIN) / _FRAMES
        for column, time in enumerate(choose_times(script, annotation)):
            left, bottom = (_MARGIN + column * width) / _WIDTH, (top - block + 0.18) / height
            axes = figure.add_axes((left, bottom, (width - 0.08) / _WIDTH, (_ROW - 0.06) / height))
            axes.imshow(render(script, time), aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"{time:.0f} s", fontsize=7, labelpad=1, color="#555555")
            inside = any(start <= time < end for start, end in annotation.moments)
            for spine in axes.spines.values():
                spine.set(color=_INSIDE if inside else _OUTSIDE, linewidth=3 if inside else 1)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def choose_times(script: Script, annotation: Annotation) -> list[float]:
    """Times of eight frames: half inside the moments, half outside."""
    times = np.arange(script.frames) / FPS
    inside = np.any([(times >= start) & (times < end) for start, end in annotation.moments], axis=0)
    chosen: list[float] = []
    for part in (times[inside], times[~inside]):
        places = (np.arange(_FRAMES // 2) + 0.5) / (_FRAMES // 2) * len(part)
        chosen += [float(part[int(place)]) for place in places]
    return sorted(chosen)


MOST_PER_SEED = 1_000_000
"""Number of videos of one seed."""


def list_seeds(seed: int, videos: int) -> range:
    """The seeds of the single videos that `synthesize` makes.

    Example:
        >>> list_seeds(7, 2)
        range(7000000, 7000002)
    """
    return range(seed * MOST_PER_SEED, seed * MOST_PER_SEED + videos)


@dataclass(frozen=True)
class Synthesis:
    """The files of a split, and how many videos were made and kept, and how many queries have moments or none."""

    annotations: Path
    absent: Path
    preview: Path
    videos: int
    kept: int
    queries: int
    absent_queries: int


def synthesize(
    folder: str | Path,
    videos: int,
    *,
    seed: int = 0,
    split: Split = "train",
    jobs: int = 1,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Synthesis:
    """Makes the first videos of a seed and split, with ``{split}.jsonl``, ``{split}_absent.jsonl`` and a contact sheet.

    Existing videos are kept, so that an interrupted run continues where it stopped and a larger number adds videos.
    Annotations are written when all videos are complete.

    Args:
        folder: Created if necessary; it may hold other splits.
        videos: Number of videos, from 1 to a million.
        seed: At least 0; two seeds or two splits share no video.
        split: Only ``test`` shows the combinations of color, shape and action that training lacks.
        jobs: Processes.
        force: Whether to make all videos again, and to replace annotations of other videos.
        progress: Called with the number of videos done and expected.

    Raises:
        ValueError: If a number is out of range.
        OutputError: If something cannot be written, or the folder has annotations of other videos.
    """
    if not 1 <= videos <= MOST_PER_SEED or seed < 0 or jobs < 1:
        raise ValueError(
            f"videos ({videos}) must be 1 to {MOST_PER_SEED}, seed ({seed}) 0 or more, jobs ({jobs}) 1 or more"
        )
    folder = Path(folder)
    files = folder / f"{split}.jsonl", folder / f"{split}_absent.jsonl", folder / f"{split}_preview.png"
    seeds = list_seeds(seed, videos)
    if not force:
        _check_annotations(files[0], {f"{split}-{number:07d}" for number in seeds})
    try:
        (folder / "videos").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder / 'videos'} cannot be created ({error.strerror}): choose another folder") from None
    with hold(folder, OutputError):
        made: dict[int, _Made] = {}
        deaths: list[Death] = []
        progress(0, videos)
        with closing(
            map_in_processes(partial(partial, _make, split, folder / "videos", force), seeds, jobs)
        ) as results:
            for number, one in results:
                if isinstance(one, Death):
                    deaths.append(one)
                else:
                    made[number] = one
                progress(len(made) + len(deaths), videos)
        if deaths:
            raise OutputError(
                f"{folder}: {len(deaths)} of {videos} videos failed, {deaths[0].reason}; if memory was short, use "
                "fewer --jobs; run the command again to continue"
            )
        queries = [query for number in seeds for query in made[number][0]]
        absent = [query for number in seeds for query in made[number][1]]
        write_atomically(files[1], "".join(map(to_line, absent)), force=True)
        # Of each video, the query that says most.
        described = [number for number in seeds if made[number][0]][:_MOST_SHOWN]
        shown = [
            (make_video(number, split), max(made[number][0], key=lambda query: len(query.query.split())))
            for number in described
        ]
        write_atomically(files[2], draw_preview(shown), force=True)
        write_atomically(files[0], "".join(map(to_line, queries)), force=True)
        kept = sum(one[2] for one in made.values())
        return Synthesis(*files, videos - kept, kept, len(queries), len(absent))


_Made = tuple[list[Annotation], list[Annotation], bool]
"""Queries and absent queries of a video, and whether it existed."""


def _make(split: Split, folder: Path, force: bool, seed: int) -> _Made:
    script = make_video(seed, split)
    path = folder / f"{script.vid}.mp4"
    kept = not force and is_written(script, path)
    if not kept:
        write_video(script, path)
    return describe(script), describe_absent(script), kept


def _check_annotations(path: Path, vids: set[str]) -> None:
    """Refuses to replace annotations of videos that this run does not make."""
    if not path.exists():
        return
    advice = "choose another folder, or replace it with --force"
    with guard(f"{path} is not an annotation file", OutputError, advice):
        lines = read_file(path, OutputError, advice).decode().splitlines()
        others = {json.loads(line)["vid"] for line in lines} - vids
    if others:
        raise OutputError(
            f"{path} has {len(others)} other videos, such as {min(others)}; choose another folder, "
            "or replace it with --force"
        )
