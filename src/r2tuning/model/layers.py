"""Small layers that the R² Block is made of."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureMap(nn.Sequential):
    """MLP that brings CLIP tokens into the model's width (Eq. 2 and 3).

    Args:
        width: Width of the CLIP tokens, temporal endpoints included.
        hidden: C, width inside the model.
        dropout: Dropout before each linear layer.

    Shape:
        ``[..., width]`` → ``[..., hidden]``.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Dropout(dropout),
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.LayerNorm(hidden),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
        )
        self.dropout = dropout


class Attention(nn.Module):
    """Multi-head attention with separate query, key, value and output projections.

    Args:
        hidden: C, width of inputs and outputs.
        heads: Number of heads; each is scaled by 1/√(C/heads).
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attends from ``query [B, T, C]`` to ``key``, ``value [B, S, C]`` where ``mask [B, S]`` is True.

        Returns:
            ``[B, T, C]``.
        """
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        merged: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return merged


class DropPath(nn.Module):
    """Drops a residual branch for whole samples during training (stochastic depth).

    Args:
        rate: Chance of dropping, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Keeps or zeroes each sample of ``x [B, ...]``; the expected value does not change."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1 - self.rate)


def temporal_endpoints(mask: Tensor) -> Tensor:
    """Where each frame begins and ends, as a share of its own video: ``[t/T, (t+1)/T]``.

    Args:
        mask: bool ``[B, T]``, True for real frames.

    Returns:
        ``[B, T, 2]`` of PyTorch's default float type; values of padded frames mean nothing.

    Example:
        >>> temporal_endpoints(torch.tensor([[True, True, False]]))[0, :2].tolist()
        [[0.0, 0.5], [0.5, 1.0]]
    """
    lengths = mask.sum(1, keepdim=True).clamp(min=1)
    frame = torch.arange(mask.shape[1], device=mask.device)
    return torch.stack([frame / lengths, (frame + 1) / lengths], dim=-1)


def position_encoding(mask: Tensor, channels: int) -> Tensor:
    """Sinusoid of each frame's relative position ``2π·(t+1)/T`` in its own video.

    Channel c has the angle ``position / 10000^(2⌊c/2⌋/channels)``; even channels are sines, odd ones cosines.

    Args:
        mask: bool ``[B, T]``, True for real frames.
        channels: C.

    Returns:
        ``[B, T, C]`` of PyTorch's default float type; values of padded frames mean nothing.

    Example:
        >>> position_encoding(torch.ones(1, 2, dtype=torch.bool), 2).round(decimals=2)[0].tolist()
        [[0.0, -1.0], [-0.0, 1.0]]
    """
    frame = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    position = 2 * math.pi * frame / (mask.sum(1, keepdim=True) + 1e-6)
    channel = torch.arange(channels, device=mask.device)
    wavelength = 10000.0 ** (2 * (channel // 2) / channels)
    angle = position[..., None] / wavelength
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())
