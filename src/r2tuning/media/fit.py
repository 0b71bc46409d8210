"""Decoded frames brought into the form that H.264 players expect."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from av.filter import Graph
from av.video.frame import VideoFrame

_FORMAT = "yuv420p"  # 8 bits, colour in half the lines and columns: the only one that plays everywhere


class FrameFitter:
    """Brings frames to one even size and to 8 bits.

    Args:
        width: Pixels of the frames; others, which a recording may change to midway, are scaled to that.
        height: Pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._shape: tuple[int, int, str] | None = None
        self._graph: Graph | None = None

    def fit(self, frame: VideoFrame) -> VideoFrame:
        """Returns the frame with the last column or row of an odd size cut off; itself where nothing is to be done."""
        shape = frame.width, frame.height, frame.format.name
        even = self._width // 2 * 2, self._height // 2 * 2
        if shape == (*even, _FORMAT):
            return frame
        if self._graph is None or shape != self._shape:
            self._graph, self._shape = self._make_graph(frame), shape
        self._graph.push(frame)
        return cast(VideoFrame, self._graph.pull())

    def _make_graph(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        nodes = [
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
            )
        ]
        if (frame.width, frame.height) != (self._width, self._height):
            nodes.append(graph.add("scale", f"{self._width}:{self._height}"))
        nodes.append(graph.add("crop", "trunc(iw/2)*2:trunc(ih/2)*2:0:0"))
        nodes.append(graph.add("format", _FORMAT))
        graph.link_nodes(*nodes, graph.add("buffersink"))
        graph.configure()
        return graph
