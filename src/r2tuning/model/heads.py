"""Temporal feature pyramid with strides 1, 2, 4, 8, prediction heads (Sec. 3.4), query pooling (Sec. 3.3), presence."""

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


class ConvHead(nn.ModuleList):
    """Two convolutions of width 3 over the points of a level; all levels share the weights.

    Args:
        hidden: C.
        outputs: Numbers predicted at each point.
    """

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__(
            [
                nn.Conv1d(hidden, hidden, kernel_size=3, padding=1),
                nn.ReLU(),
                nn.Conv1d(hidden, outputs, kernel_size=3, padding=1),
            ]
        )

    def forward(self, windows: Tensor, real: Tensor) -> Tensor:
        """Predicts at every entry of joined levels.

        Args:
            windows: From `join_levels`, ``[B, M, 3·C]``.
            real: From `join_levels`, ``[B, M, 1]``.

        Returns:
            ``[B, M, outputs]``, in the precision of the weights (fp32 as published), also under autocast.
        """
        first, activation, second = self
        assert isinstance(first, nn.Conv1d)
        assert isinstance(second, nn.Conv1d)
        with torch.autocast(windows.device.type, enabled=False):
            x = activation(F.linear(windows.to(first.weight.dtype), first.weight.flatten(1), first.bias)) * real
            before, here, after = (x @ tap.t() for tap in second.weight.unbind(2))
            predicted: Tensor = here + F.pad(before, (0, 0, 1, -1)) + F.pad(after, (0, 0, -1, 1)) + second.bias
        return predicted


def join_levels(levels: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Joins levels with a zero entry after each, so that convolutions run once and do not mix levels.

    Args:
        levels: ``[B, N_l, C]`` for each level.
        masks: bool ``[B, N_l]`` for each level; padding becomes zero, as at the end of a level.

    Returns:
        What a convolution of width 3 reads at each of the M entries, ``[B, M, 3·C]`` in the order of its weights, and
        which entries are real, bool ``[B, M, 1]``.
    """
    gap, no_gap = torch.zeros_like(levels[0][:, :1]), torch.zeros_like(masks[0][:, :1])
    joined = torch.cat([x for level in levels for x in (level, gap)], dim=1)
    real = torch.cat([x for mask in masks for x in (mask, no_gap)], dim=1)[..., None]
    return F.pad(joined * real, (0, 0, 1, 1)).unfold(1, 3, 1).flatten(2), real


def drop_gaps(predicted: Tensor, levels: list[Tensor]) -> Tensor:
    """Predictions at the points of all levels, ``[B, N, ...]`` of ``[B, M, ...]``, without the entries in between."""
    pieces = torch.split(predicted, [level.shape[1] + 1 for level in levels], dim=1)
    return torch.cat([piece[:, :-1] for piece in pieces], dim=1)


class QueryPooling(nn.Module):
    """Token-wise adaptive pooling of the query into one vector q̃ (Sec. 3.3, Granularity Calibration).

    Args:
        hidden: C.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, query: Tensor, mask: Tensor) -> Tensor:
        """Weighted mean of the tokens ``[..., L, C]`` where ``mask`` (broadcast to ``[..., L]``) is True.

        Returns:
            ``[..., C]``.
        """
        weight = self.score(query).masked_fill(~mask[..., None], -torch.inf)
        return F.softmax(weight, dim=-2).transpose(-1, -2).matmul(query).squeeze(-2)


class PresenceHead(nn.Module):
    """Whether the video shows the query at all: one logit from the frames that say most about it (not in the paper).

    Each frame is compared with the pooled query; the frames are averaged with learned weights, so that a single frame
    may decide. It adds at most 4 % to the weights of a model.

    Args:
        hidden: C.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        inner = 3 * hidden // 4
        self.frame = nn.Linear(hidden, inner)
        self.query = nn.Linear(hidden, inner, bias=False)
        self.weight = nn.Linear(inner, 1, bias=False)
        self.output = nn.Linear(inner, 1)

    def forward(self, hidden: Tensor, query: Tensor, mask: Tensor) -> Tensor:
        """Logits ``[B]`` of frames ``[B, T, C]`` and pooled queries ``[B, C]``; ``mask`` ``[B, T]`` marks real frames.

        They are in the precision of the weights, also under autocast.
        """
        dtype = self.output.weight.dtype
        with torch.autocast(hidden.device.type, enabled=False):
            compared = F.relu(self.frame(hidden.to(dtype)) + self.query(query.to(dtype))[:, None])
            weight = self.weight(compared).masked_fill(~mask[..., None], -torch.inf).softmax(dim=1)
            logits: Tensor = self.output((weight * compared).sum(dim=1)).squeeze(1)
        return logits
