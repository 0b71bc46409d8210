"""How much the frames of a video matter when there is no query: typical of it, and new."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def score_frames(tokens: Tensor) -> Tensor:
    """How typical of the video and how new each frame is.

    With unit vectors ``x``, frame t of T is worth

        ``mean over u ≠ t of x_t · x_u  −  max(x_t · x_{t−1}, x_t · x_{t+1})``

    The first term is high for what the video shows a lot (it is representative), the second for what is still as it
    was or stays as it is (it says nothing new). At a cut, a frame is compared with the neighbour in its own shot,
    so that cuts alone make nothing new. The lowest of a video becomes 0, the highest 1.

    Args:
        tokens: fp32 ``[T, D]``, T ≥ 1.

    Returns:
        fp32 ``[T]`` in [0, 1]; 0.5 where all frames are worth the same.

    Example:
        >>> score_frames(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]])).round(decimals=2)
        tensor([0.0000, 0.0300, 0.2700, 1.0000])
    """
    frames = len(tokens)
    if frames == 1:
        return torch.full((1,), 0.5)
    unit = normalize(tokens.double(), dim=-1)
    own = (unit * unit).sum(dim=-1)  # 1, or 0 of a vector of zeros
    typical = (unit @ unit.sum(dim=0) - own) / (frames - 1)
    near = (unit[1:] * unit[:-1]).sum(dim=-1)
    edge = near.new_full((1,), -torch.inf)
    still = torch.maximum(torch.cat([near, edge]), torch.cat([edge, near]))
    worth = typical - still
    low, high = worth.aminmax()
    if high - low < 1e-9:  # no more than rounding
        return torch.full((frames,), 0.5)
    return ((worth - low) / (high - low)).float()
