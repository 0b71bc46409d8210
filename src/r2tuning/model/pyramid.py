"""Temporal feature pyramid (Sec. 3.4): the same frames at strides 1, 2, 4, 8."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Downsample(nn.Module):
    """Halves the number of frames: convolution of width and stride 2, LayerNorm, ReLU. An odd last frame is dropped.

    Args:
        hidden: C.

    Shape:
        ``[B, T, C]`` → ``[B, ⌊T/2⌋, C]``.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(hidden, hidden, kernel_size=2, stride=2)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Halves ``x``."""
        batch, frames, hidden = x.shape
        # A convolution without overlap is one matrix product over pairs of frames.
        pairs = x[:, : frames // 2 * 2].reshape(batch, -1, 2, hidden).transpose(2, 3).flatten(2)
        return F.relu(self.norm(F.linear(pairs, self.conv.weight.flatten(1), self.conv.bias)))


class Pyramid(nn.Module):
    """Builds every level from the frames, each with separate convolutions.

    Args:
        hidden: C.
        strides: 1, 2, 4, …
    """

    def __init__(self, hidden: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.levels = nn.ModuleList(
            nn.Sequential(*[Downsample(hidden) for _ in range(level)]) for level in range(1, len(strides))
        )

    def forward(self, hidden: Tensor) -> list[Tensor]:
        """Builds the levels of ``hidden [B, T, C]``, finest first, without those whose stride exceeds T.

        Returns:
            Tensors ``[B, ⌊T/stride⌋, C]``.
        """
        frames = hidden.shape[1]
        coarser = [level(hidden) for level, s in zip(self.levels, self.strides[1:], strict=True) if s <= frames]
        return [hidden, *coarser]


def level_mask(video_mask: Tensor, stride: int) -> Tensor:
    """Marks the entries of a level that cover real frames only.

    Args:
        video_mask: bool ``[B, T]``, real frames first.
        stride: Stride of the level.

    Returns:
        bool ``[B, ⌊T/stride⌋]``.

    Example:
        >>> level_mask(torch.tensor([[True, True, True, False]]), 2).tolist()
        [[True, False]]
    """
    return video_mask[:, stride - 1 :: stride]  # the last of the frames of each entry


def level_points(frames: int, strides: tuple[int, ...], device: torch.device) -> Tensor:
    """Lists the points of all levels: position, regression range and stride, in frames.

    A level of stride s > 1 regresses distances from s to 2s; the first starts at 0, the last has no upper bound.

    Args:
        frames: T.
        strides: Strides of the pyramid.
        device: Where to put the points.

    Returns:
        fp32 ``[N, 4]``: position, lowest distance, highest distance, stride; levels one after the other.

    Example:
        >>> level_points(2, (1, 2), torch.device("cpu")).tolist()
        [[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 2.0, 1.0], [0.0, 2.0, inf, 2.0]]
    """
    counts = torch.tensor([frames // stride for stride in strides], device=device)
    position = torch.cat([torch.arange(frames // stride, device=device) * stride for stride in strides])
    bounds = [
        [0.0 if stride == 1 else stride, float("inf") if stride == strides[-1] else 2.0 * stride, stride]
        for stride in strides
    ]
    ranges = torch.tensor(bounds, device=device, dtype=torch.float32).repeat_interleave(counts, dim=0)
    return torch.cat([position[:, None].float(), ranges], dim=1)
