"""Prediction heads (Sec. 3.4) and query pooling."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
