"""MomentMix: new training videos from the frames of two (Park et al., 2024, arXiv 2412.20816), on stored features."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

LEAST_FRAMES = 3
"""Pieces of a moment have at least so many frames."""


@dataclass(frozen=True)
class Mixture:
    """A video made of the frames of another.

    Attributes:
        order: int64 ``[T]``, the frame of the old video at each place of the new one.
        moments: ``[M, 2]`` in seconds of the new video.
        background: bool ``[T]``, frames of the new video that no moment touches.
    """

    order: Tensor
    moments: Tensor
    background: Tensor


def shuffle_pieces(moments: Tensor, frames: int, fps: float, draw: random.Random) -> Mixture:
    """Cuts moments and what is between them once each, and puts the pieces in another order (ForegroundMix).

    Moments ``[M, 2]`` in seconds must not be empty. A piece of a moment keeps the times of its ends within their
    frames, and pieces that meet are one moment.

    Example:
        >>> mixed = shuffle_pieces(torch.tensor([[4.0, 16.0]]), 10, 0.5, random.Random(1))
        >>> mixed.order.tolist(), mixed.moments.tolist()
        ([9, 2, 3, 4, 1, 8, 5, 6, 7, 0], [[2.0, 8.0], [12.0, 18.0]])
    """
    shown = touch_frames(moments, frames, fps)
    changes = [0, *((shown[1:] != shown[:-1]).nonzero().flatten() + 1).tolist(), frames]
    pieces: list[range] = []
    for start, end in pairwise(changes):
        least = LEAST_FRAMES if shown[start] else 1
        cut = draw.randint(start + least, end - least) if end - start >= 2 * least else end
        pieces += [range(start, cut)] + [range(cut, end)] * (cut < end)
    draw.shuffle(pieces)
    order = torch.tensor([frame for piece in pieces for frame in piece])
    moved: list[list[float]] = []
    place = 0
    for piece in pieces:
        shift = (place - piece.start) / fps
        for start, end in moments.tolist():
            first, last = max(start, piece.start / fps), min(end, piece.stop / fps)
            if first < last:
                moved.append([first + shift, last + shift])
        place += len(piece)
    return Mixture(order, torch.tensor(_join(moved)), ~shown[order])


def touch_frames(moments: Tensor, frames: int, fps: float) -> Tensor:
    """Frames ``[T]`` that share time with a moment ``[M, 2]`` in seconds.

    Example:
        >>> touch_frames(torch.tensor([[3.0, 6.0]]), 5, 0.5).tolist()
        [False, True, True, False, False]
    """
    start = torch.arange(frames) / fps
    return ((moments[:, :1] < start + 1 / fps) & (start < moments[:, 1:])).any(dim=0)


def replace_background(video: Tensor, background: Tensor, other: Tensor, draw: random.Random) -> Tensor:
    """Puts frames of another video where ``background [T]`` is True, each run from a random place (BackgroundMix).

    Both videos are ``[T, ...]``. Where the other is shorter than a run, it is repeated.
    """
    mixed = video.clone()
    edges = [0, *((background[1:] != background[:-1]).nonzero().flatten() + 1).tolist(), len(background)]
    for start, end in pairwise(edges):
        if background[start]:
            first = draw.randint(0, max(0, len(other) - (end - start)))
            mixed[start:end] = other[(first + torch.arange(end - start)) % len(other)]
    return mixed


def _join(moments: list[list[float]]) -> list[list[float]]:
    joined: list[list[float]] = []
    for start, end in sorted(moments):
        if joined and start <= joined[-1][1] + 1e-6:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([start, end])
    return joined
