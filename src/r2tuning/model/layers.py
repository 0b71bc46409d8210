"""Small layers of the R² Block."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureMap(nn.Sequential):
    """The MLP that maps CLIP tokens to the width of the model (Eq. 2 and 3).

    Args:
        width: Width of the CLIP tokens, including temporal endpoints.
        hidden: C, width inside the model.
        dropout: Dropout rate before each linear layer.

    Shape:
        ``[..., width]`` → ``[..., hidden]``.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Dropout(dropout),
            nn.Linear(width, hidden),
            nn.ReLU(inplace=True),
            nn.LayerNorm(hidden),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
        )
        self.dropout = dropout

    @property
    def parts(self) -> tuple[nn.LayerNorm, nn.Linear, nn.LayerNorm, nn.Linear]:
        """The layers with weights."""
        norm, _, linear, _, inner_norm, _, second = self
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(linear, nn.Linear)
        assert isinstance(inner_norm, nn.LayerNorm)
        assert isinstance(second, nn.Linear)
        return norm, linear, inner_norm, second


class Attention(nn.Module):
    """The query, key, value and output projections of multi-head attention.

    Args:
        hidden: C, width of inputs and outputs.
        heads: H, number of heads; logits are scaled by 1/√(C/H).
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)


class SelfAttention(Attention):
    """Multi-head attention among frames."""

    def forward(self, located: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attends from all frames to those where the mask is True.

        Args:
            located: Frames with their position, ``[B, T, C]``, for queries and keys.
            value: Frames, ``[B, T, C]``.
            mask: bool ``[B, T]``; None if no frame is padding, which is faster.

        Returns:
            ``[B, T, C]``.
        """
        q, k, v = (
            projection(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for projection, x in ((self.query, located), (self.key, located), (self.value, value))
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
        merged: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return merged


class CrossAttention(Attention):
    """Multi-head attention from many frames to the few tokens of a query.

    W_q and W_o are applied to the tokens instead of the frames, like w_v in Eq. 4: for the keys K and values V of a
    head, ``(x W_q + b_q) Kᵀ = x (W_q Kᵀ) + b_q Kᵀ`` and ``(a V) W_o = a (V W_o)``.
    """

    def prepare(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Everything that does not depend on the frames, for K layers at once.

        Args:
            tokens: q̂, ``[B, K, L, C]``.
            mask: bool ``[B, L]``, True for real tokens.

        Returns:
            What maps frames to logits, ``[B, K, H·L, C]``; the bias of these, ``[B, K, H·L, 1]``, minus infinity for
            padding; and what maps attention to the output, ``[B, K, H·L, C]``.
        """
        heads, size = self.heads, tokens.shape[-1] // self.heads

        def arrange(x: Tensor) -> Tensor:  # [H, B·K·L, n] → [B, K, H·L, n]
            return x.view(heads, *tokens.shape[:3], -1).permute(1, 2, 0, 3, 4).flatten(2, 3)

        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.to(self.query.weight.dtype)
            k, v = (x(tokens).view(-1, heads, size).transpose(0, 1) for x in (self.key, self.value))
            k = k * size**-0.5
            logits = k @ self.query.weight.view(heads, size, -1)
            bias = arrange(k @ self.query.bias.view(heads, size, 1))
            # Attention sums to 1 in each head, so the bias of W_o can be added to every token.
            output = v @ self.output.weight.t().view(heads, size, -1) + self.output.bias / heads
        padding = ~mask[:, None].repeat(1, 1, heads)[..., None]
        return arrange(logits), bias.masked_fill(padding, -torch.inf), arrange(output)

    def forward(self, located: Tensor, logits: Tensor, bias: Tensor, output: Tensor) -> Tensor:
        """Attends from frames with their position, ``[B, T, C]``, to one layer of what `prepare` returns.

        Returns:
            ``[B, T, C]``.
        """
        scores = logits @ located.transpose(1, 2) + bias  # [B, H·L, T]
        attention = scores.view(len(scores), self.heads, -1, scores.shape[2]).softmax(dim=2).view_as(scores)
        return attention.transpose(1, 2) @ output


class DropPath(nn.Module):
    """Drops a residual branch for whole samples during training (stochastic depth).

    Args:
        rate: Probability of dropping, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Keeps or zeroes each sample of ``x [B, ...]`` and rescales, so that the expected value stays the same."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1 - self.rate)


def temporal_endpoints(mask: Tensor) -> Tensor:
    """Start and end of each frame as fractions of its video: ``[t/T, (t+1)/T]``.

    Args:
        mask: bool ``[B, T]``, True for real frames.

    Returns:
        ``[B, T, 2]`` in PyTorch's default float type; values of padded frames are meaningless.

    Example:
        >>> temporal_endpoints(torch.tensor([[True, True, False]]))[0, :2].tolist()
        [[0.0, 0.5], [0.5, 1.0]]
    """
    lengths = mask.sum(1, keepdim=True).clamp(min=1)
    frame = torch.arange(mask.shape[1], device=mask.device)
    return torch.stack([frame / lengths, (frame + 1) / lengths], dim=-1)


def position_encoding(mask: Tensor, channels: int) -> Tensor:
    """Sinusoidal encoding of each frame's relative position ``2π·(t+1)/T`` in its video.

    Channel c has the angle ``position / 10000^(2⌊c/2⌋/channels)``; even channels are sines, odd channels cosines.

    Args:
        mask: bool ``[B, T]``, True for real frames.
        channels: C.

    Returns:
        ``[B, T, C]`` in PyTorch's default float type; values of padded frames are meaningless.

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
