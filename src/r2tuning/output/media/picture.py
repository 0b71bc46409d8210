"""Decoded pictures as a player shows them: deinterlaced, with their own matrix and range, and in the right shape."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import cast

import av
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

# Numbers of H.273, which FFmpeg uses too: matrices and ranges of color.
BT709, UNTAGGED, BT601 = 1, 2, 6
LIMITED = 1
_BT2020, _BT2020_CONSTANT = 9, 10
_CONVERTIBLE = {BT709, 4, 5, BT601, 7, _BT2020}

TURNS = {0: (), 90: ("clock",), 180: ("clock", "clock"), 270: ("cclock",)}
"""What FFmpeg's filter ``transpose`` does for each number of degrees clockwise."""

# Pixel shapes are read as the width of a picture that FFmpeg scales by them: 1/12 comes out as 1/12, 4/3 as 4/3.
_PRECISION, _LARGEST_TERM = 100_000, 200


def add_source(graph: Graph, frame: VideoFrame, *, matrix: int | None = None) -> FilterContext:
    """Adds to a graph a source of frames like this one: of its size, format, matrix and range."""
    return graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(frame.time_base or Fraction(1)),
        pixel_aspect="1/1",
        colorspace=str(int(frame.colorspace) if matrix is None else matrix),
        range=str(int(frame.color_range)),
    )


def find_matrix(frame: VideoFrame) -> int:
    """The matrix by which a player turns the frame into RGB: its own, else BT.709 for HD and BT.601 for SD.

    Matrices that FFmpeg cannot convert are read as the nearest that it can.
    """
    if is_rgb(frame) or frame.colorspace in _CONVERTIBLE:
        return int(frame.colorspace)
    if frame.colorspace == _BT2020_CONSTANT:
        return _BT2020
    return BT709 if frame.width >= 1280 or frame.height > 576 else BT601


def is_rgb(frame: VideoFrame) -> bool:
    """Whether a frame is stored as RGB, if only in its palette."""
    return frame.format.is_rgb or frame.format.has_palette


def to_rgb(frame: VideoFrame, width: int, height: int) -> VideoFrame:
    """Scales a frame and converts it to 8-bit RGB by its own matrix and range."""
    graph = Graph()
    scale = graph.add("scale", f"{width}:{height}:flags=bicubic+full_chroma_int+accurate_rnd")
    matrix = find_matrix(frame)
    graph.link_nodes(
        add_source(graph, frame, matrix=matrix), scale, graph.add("format", "rgb24"), graph.add("buffersink")
    )
    graph.configure()
    graph.push(tag(frame, matrix))
    return cast(VideoFrame, graph.pull())


def tag(frame: VideoFrame, matrix: int) -> VideoFrame:
    """Gives a frame its matrix."""
    if frame.colorspace != matrix:
        frame.colorspace = matrix
    return frame


def measure_aspect(frame: VideoFrame) -> Fraction:
    """Width over height of a frame's pixels, 1 if it does not say.

    PyAV does not show this field of a frame, and the decoder's is that of a later frame. FFmpeg's scaler reads it.
    """
    graph = Graph()
    scale = graph.add("scale", f"w=round(sar*{_PRECISION}):h=2:flags=neighbor:eval=frame")
    stored, matrix = frame.colorspace, find_matrix(frame)
    graph.link_nodes(add_source(graph, frame, matrix=matrix), scale, graph.add("buffersink"))
    graph.configure()
    graph.push(tag(frame, matrix))
    width = cast(VideoFrame, graph.pull()).width
    frame.colorspace = stored
    return Fraction(width, _PRECISION).limit_denominator(_LARGEST_TERM)


def deinterlace(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Replaces interlaced frames by progressive ones, one for one; others pass as they are.

    The filter looks at neighboring frames. It starts at the first interlaced frame, and starts again where the size or
    format changes.
    """
    graph: Graph | None = None
    shape: tuple[int, int, str] | None = None
    waiting: deque[VideoFrame] = deque()
    for frame in frames:
        found = frame.width, frame.height, frame.format.name
        if graph is not None and found != shape:
            graph.push(None)
            yield from _pull(graph, waiting)
            graph = None
        if graph is None:
            if not frame.interlaced_frame:
                yield frame
                continue
            graph, shape = Graph(), found
            bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
            graph.link_nodes(add_source(graph, frame), bwdif, graph.add("buffersink"))
            graph.configure()
        waiting.append(frame)
        graph.push(frame)
        yield from _pull(graph, waiting)
    if graph is not None:
        graph.push(None)
        yield from _pull(graph, waiting)


def _pull(graph: Graph, waiting: deque[VideoFrame]) -> Iterator[VideoFrame]:
    while waiting:
        try:
            frame = graph.vpull()
        except (av.EOFError, av.BlockingIOError):
            return
        stored = waiting.popleft()
        frame.pts = stored.pts
        if stored.time_base is not None:  # the filter counts in halves
            frame.time_base = stored.time_base
        yield frame


@dataclass(frozen=True)
class Raster:
    """What fitted pictures have in common.

    Attributes:
        size: Width and height. Where ``pix_fmt`` has color in half the lines and columns, odd ones lose the last.
        aspect: Width over height of their pixels.
        pix_fmt: FFmpeg's name of their format.
        matrix, primaries, transfer, range: How their colors are to be read, as numbers of H.273.
        read_as: The matrix by which a player reads them, also where they name none.
    """

    size: tuple[int, int]
    aspect: Fraction = Fraction(1)
    pix_fmt: str = "yuv420p"
    matrix: int = BT709
    primaries: int = int(ColorPrimaries.BT709)
    transfer: int = int(ColorTrc.BT709)
    range: int = LIMITED
    read_as: int = BT709

    @classmethod
    def of(cls, first: VideoFrame, fixed_aspect: Fraction | None, pix_fmt: str) -> Raster:
        """That of a frame; RGB becomes BT.709. ``fixed_aspect`` is None if the frame says the shape of its pixels."""
        matrix, color_range = int(first.colorspace), int(first.color_range)
        primaries, transfer = int(first.color_primaries), int(first.color_trc)
        if is_rgb(first):
            matrix, color_range = BT709, LIMITED
            primaries = int(ColorPrimaries.BT709) if primaries == UNTAGGED else primaries
            transfer = int(ColorTrc.IEC61966_2_1) if transfer == UNTAGGED else transfer
        return cls(
            (first.width, first.height),
            fixed_aspect or measure_aspect(first),
            pix_fmt,
            matrix,
            primaries,
            transfer,
            color_range,
            BT709 if is_rgb(first) else find_matrix(first),
        )


class Fitter:
    """Fits the frames of a video, whose size, format, shape and matrix may change midway, to a raster.

    Pictures of another shape get black bars. ``fixed_aspect`` is the shape of all pixels, width over height; if it is
    None, each frame says its own. ``rotation`` is by how many degrees clockwise they are turned.
    """

    def __init__(self, raster: Raster, fixed_aspect: Fraction | None, rotation: int = 0) -> None:
        self.raster = raster
        self._fixed_aspect = fixed_aspect
        self._rotation = rotation
        self._graph: Graph | None = None
        self._shape: tuple[object, ...] | None = None

    def fit(self, frame: VideoFrame) -> VideoFrame:
        """Fits one frame."""
        shape = frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range)
        if self._graph is None or shape != self._shape:
            self._graph, self._shape = self._make_graph(frame), shape
        self._graph.push(tag(frame, find_matrix(frame)))
        return cast(VideoFrame, self._graph.pull())

    def _make_graph(self, frame: VideoFrame) -> Graph:
        graph, raster = Graph(), self.raster
        width, height = raster.size if self._rotation in (0, 180) else raster.size[::-1]
        aspect = raster.aspect if self._rotation in (0, 180) else 1 / raster.aspect
        step = 1 if raster.pix_fmt.startswith("yuv444p") else 2

        def even(size: int, rounding: Callable[[float], int]) -> int:
            return rounding(size / step) * step

        # Width over height of the picture in pixels of the raster's shape. The scaler notices when `sar` changes.
        own = f"sar/({aspect})" if self._fixed_aspect is None else f"({self._fixed_aspect / aspect})"
        ratio = f"(iw*{own}/ih)"
        scale = f"w='min({width},round({height}*{ratio}))':h='min({height},round({width}/{ratio}))':eval=frame"
        if is_rgb(frame):
            scale += f":out_color_matrix={raster.read_as}"
        elif (matrix := find_matrix(frame)) != raster.read_as:
            scale += f":in_color_matrix={matrix}:out_color_matrix={raster.read_as}"
        if raster.range:
            scale += f":out_range={raster.range}"
        nodes = [
            add_source(graph, frame, matrix=find_matrix(frame)),
            graph.add("scale", scale),
            graph.add("format", raster.pix_fmt),
            graph.add("pad", f"{even(width, ceil)}:{even(height, ceil)}:(ow-iw)/2:(oh-ih)/2:eval=frame"),
            graph.add("crop", f"{even(width, floor)}:{even(height, floor)}:0:0"),
            *(graph.add("transpose", turn) for turn in TURNS[self._rotation]),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes)
        graph.configure()
        return graph
