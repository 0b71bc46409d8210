"""Prediction heads (Sec. 3.4) and the pooled query."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvHead(nn.ModuleList):
    """Two convolutions of width 3 over the points of one level; weights are shared by all levels.

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

    def forward(self, level: Tensor, mask: Tensor) -> Tensor:
        """Predicts on one level; entries beyond a sample's end act as the zero padding they would meet alone.

        Runs in the precision of its weights (fp32 as published) whatever autocast says.

        Args:
            level: ``[B, N, C]``.
            mask: bool ``[B, N]``.

        Returns:
            ``[B, N, outputs]``, in the precision of the weights.
        """
        first, activation, second = self
        precision = next(self.parameters()).dtype
        with torch.autocast(level.device.type, enabled=False):
            real = mask[:, None]
            x = activation(first(level.to(precision).transpose(1, 2) * real)) * real
            predicted: Tensor = second(x)
        return predicted.transpose(1, 2)


def join_levels(levels: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Levels one after the other, with a padded entry between them, so that heads run once and none sees another.

    Args:
        levels: ``[B, N_l, C]`` of each level.
        masks: bool ``[B, N_l]`` of each level.

    Returns:
        Entries ``[B, N + levels - 1, C]``, their mask, and int64 ``[N]``: where the entries of the levels are.

    Example:
        >>> levels = [torch.ones(1, 2, 1), torch.ones(1, 1, 1)]
        >>> _, mask, places = join_levels(levels, [level[..., 0] > 0 for level in levels])
        >>> mask.tolist(), places.tolist()
        ([[True, True, False, True]], [0, 1, 3])
    """
    entries = torch.cat([F.pad(level, (0, 0, 0, 1)) for level in levels], dim=1)[:, :-1]
    mask = torch.cat([F.pad(mask, (0, 1)) for mask in masks], dim=1)[:, :-1]
    ends = torch.tensor([level.shape[1] for level in levels]).cumsum(0)[:-1]
    places = torch.arange(sum(level.shape[1] for level in levels))
    places = places + (places[:, None] >= ends).sum(1)
    return entries, mask, places.to(mask.device)


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
