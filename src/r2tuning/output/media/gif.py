"""Writes a moment as an animated GIF."""

from __future__ import annotations

import io
import os
from contextlib import closing
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from r2tuning.errors import OutputError, VideoError
from r2tuning.files import check_target, write_atomically
from r2tuning.output.media.footage import Footage

_WIDTH = 480
_RATE = 10  # frames per second
_LONGEST = 10.0  # seconds; what follows is left out
_TURNS = {0: (), 90: ("clock",), 180: ("clock", "clock"), 270: ("cclock",)}


def check_gif_target(path: str | os.PathLike[str], *, force: bool) -> None:
    """Checks, before a long computation, that a GIF may be written.

    Args:
        path: The file to be written.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: If the suffix is not ``.gif`` or the file may not be written.
    """
    if not os.fspath(path).lower().endswith(".gif"):
        raise OutputError(f"{path} must end in .gif: animated pictures are written as GIF")
    check_target(path, force=force)


def write_gif(
    video: str | Footage, start: float, end: float, target: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Writes a span of a video as a GIF that repeats: 10 frames per second, at most 480 pixels wide and 10 s long.

    Args:
        video: The file.
        start: Seconds on the player's clock.
        end: Seconds on the player's clock; what is later than 10 s after ``start`` is left out.
        target: The file to write.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: The file may not or cannot be written.
        ValueError: The span does not end after it starts.
        VideoError: The video cannot be read, or nothing of the span can be decoded.
    """
    check_gif_target(target, force=force)
    footage = video if isinstance(video, Footage) else Footage(video)
    stretch = footage.find(start, min(end, start + _LONGEST))
    # For each tenth of a second, the frame on the screen.
    times = np.arange(stretch.begin, stretch.end, float(1 / (_RATE * footage.time_base)))
    places = np.searchsorted(stretch.ticks, times, side="right") - 1
    needed, repeats = np.unique(stretch.ticks[np.maximum(places, 0)], return_counts=True)
    counts = dict(zip(needed.tolist(), repeats.tolist(), strict=True))
    palette: _Palette | None = None
    shown = 0
    with closing(footage.read_frames(needed)) as frames:
        for tick, frame in frames:
            palette = palette or _Palette(frame, footage)
            for _ in range(counts[tick]):
                palette.add(frame, shown)
                shown += 1
    if palette is None:
        raise VideoError(f"{footage.info.path}: none of these frames can be decoded; copy or download it again")
    write_atomically(target, palette.encode(), force=force)


class _Palette:
    """Scales frames and reduces them to 256 colors that suit them all."""

    def __init__(self, frame: VideoFrame, footage: Footage) -> None:
        self._graph = graph = Graph()
        self._shape = frame.width, frame.height, frame.format.name
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, _RATE)
        )
        width = min(_WIDTH, footage.shape[0])
        height = max(1, round(footage.shape[1] * width / footage.shape[0]))
        turned = [graph.add("transpose", turn) for turn in _TURNS[footage.info.rotation]]
        split, use = graph.add("split"), graph.add("paletteuse")
        palette = graph.add("palettegen")
        graph.link_nodes(source, *turned, graph.add("scale", f"{width}:{height}:flags=lanczos"), split, palette)
        split.link_to(use, 1, 0)
        palette.link_to(use, 0, 1)
        graph.link_nodes(use, graph.add("buffersink"))
        graph.configure()

    def add(self, frame: VideoFrame, number: int) -> None:
        """Adds a frame; one of another size or format, to which a recording may change midway, is converted."""
        width, height, format_name = self._shape
        frame = frame.reformat(width, height, format_name)
        frame.pts, frame.time_base = number, Fraction(1, _RATE)
        self._graph.push(frame)

    def encode(self) -> bytes:
        """Returns the file's content."""
        self._graph.push(None)
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="gif") as container:
            stream: VideoStream | None = None
            while True:
                try:
                    frame = self._graph.vpull()
                except (av.EOFError, av.BlockingIOError):
                    break
                if stream is None:
                    stream = container.add_stream("gif", rate=_RATE)
                    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "pal8"
                container.mux(stream.encode(frame))
            if stream is not None:
                container.mux(stream.encode(None))
        return buffer.getvalue()
