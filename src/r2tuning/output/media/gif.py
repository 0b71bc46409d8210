"""Writes a moment as an animated GIF."""

import io
import os
from collections import Counter
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
from r2tuning.output.media.picture import TURNS, Fitter, Raster, add_source, find_matrix, tag

_WIDTH = 480
_RATE = 10  # frames per second
_LONGEST = 10.0  # seconds; what follows is left out


def write_gif(
    video: str | Footage, start: float, end: float, target: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Writes a span of a video as a GIF that repeats: 10 frames per second, at most 480 pixels wide and 10 s long.

    ``start`` and ``end`` are seconds on the player's clock; what is later than 10 s after ``start`` is left out.
    """
    if not os.fspath(target).lower().endswith(".gif"):
        raise OutputError(f"{target} must end in .gif: animated pictures are written as GIF")
    check_target(target, force=force)
    footage = video if isinstance(video, Footage) else Footage(video)
    stretch = footage.find(start, min(end, start + _LONGEST))
    # For each tenth of a second, the frame on the screen.
    times = np.arange(stretch.begin, stretch.end, float(1 / (_RATE * footage.time_base)))
    places = np.searchsorted(stretch.ticks, times, side="right") - 1
    ticks = stretch.ticks[np.maximum(places, 0)]
    counts = Counter(ticks.tolist())
    graph: Graph | None = None
    shown = 0
    with closing(footage.read_frames(np.unique(ticks))) as frames:
        for tick, frame in frames:
            if graph is None:
                # A recording may change its size, format or shape midway.
                fitter = Fitter(Raster.of(frame, footage.fixed_aspect, "yuv444p"), footage.fixed_aspect)
                graph = _make_palette_graph(fitter.fit(frame), footage.find_shape(frame), footage.info.rotation)
            for _ in range(counts[tick]):
                fitted = fitter.fit(frame)
                fitted.pts, fitted.time_base = shown, Fraction(1, _RATE)
                graph.push(tag(fitted, find_matrix(fitted)))
                shown += 1
    if graph is None:
        raise VideoError(f"{footage.info.path}: none of these frames can be decoded; copy or download it again")
    write_atomically(target, _encode(graph), force=force)


def _make_palette_graph(frame: VideoFrame, stored: tuple[int, int], rotation: int) -> Graph:
    """Makes a filter that scales frames like this one and reduces them to 256 colors that suit them all."""
    graph = Graph()
    frame.time_base = Fraction(1, _RATE)
    source = add_source(graph, frame, matrix=find_matrix(frame))
    shape = stored if rotation in (0, 180) else stored[::-1]
    width = min(_WIDTH, shape[0])
    height = max(1, round(shape[1] * width / shape[0]))
    turned = [graph.add("transpose", turn) for turn in TURNS[rotation]]
    split, use = graph.add("split"), graph.add("paletteuse")
    palette = graph.add("palettegen")
    graph.link_nodes(source, *turned, graph.add("scale", f"{width}:{height}:flags=lanczos"), split, palette)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    graph.link_nodes(use, graph.add("buffersink"))
    graph.configure()
    return graph


def _encode(graph: Graph) -> bytes:
    graph.push(None)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="gif") as container:
        stream: VideoStream | None = None
        while True:
            try:
                frame = graph.vpull()
            except (av.EOFError, av.BlockingIOError):
                break
            if stream is None:
                stream = container.add_stream("gif", rate=_RATE)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "pal8"
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    return buffer.getvalue()
