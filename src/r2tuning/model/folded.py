"""Temporal layer, pyramid and heads with their weights merged: the numbers of the plain modules in fewer, larger steps.

- The few tokens of a query are its only keys and values in cross-attention. Multiplied with W_q and W_out beforehand,
  they make of it two products, with [H·L, C] and [H·L, C], and a softmax between them. Frames are the columns of its
  logits, since a softmax of few entries is slow along rows.
- Queries, keys and values of self-attention are one product of each head, since it is faster where those of a head lie
  together; the position encoding's share in it is a constant.
- A bias right before a residual sum moves to the other summand, which ends a LayerNorm: (W x + b) + y = W x + (y + b).
  It joins the bias of that LayerNorm, and what else reads y subtracts its own product with b.
- Points of all levels and samples are rows of one matrix, with a row of zeros after each level. Convolutions of width 3
  are three products with it, each shifted by a row, and run once for both heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r2tuning.model.block import TemporalRefinement
from r2tuning.model.heads import ConvHead
from r2tuning.model.layers import position_encoding
from r2tuning.model.pyramid import Pyramid, level_mask, level_points


@dataclass(frozen=True)
class Timeline:
    """What is known of V videos without looking at them.

    Attributes:
        video_mask: bool ``[V, T]``.
        whole: Whether all frames are real.
        position: Of `position_encoding`, ``[V·T, C]``.
        located: Share of position and bias in queries, keys and values of the heads of the self-attention,
            ``[3H, V·T, C/H]``.
    """

    video_mask: Tensor
    whole: bool
    position: Tensor
    located: Tensor


@dataclass(frozen=True)
class Crossing:
    """Cross-attention to Q queries in K steps.

    Attributes:
        into: From a frame to the logits of all heads and tokens, ``[Q, K, H·L, C]``.
        bias: Of these, ``[Q, K, H·L, 1]``; minus infinity for padding.
        out: From attention to what is added to the frame, ``[Q, K, H·L, C]``.
    """

    into: Tensor
    bias: Tensor
    out: Tensor


@dataclass(frozen=True)
class PointPlan:
    """What is known of the points of V videos without looking at them.

    Attributes:
        points: Of `level_points`, ``[N, 4]``.
        mask: bool ``[V, N]``, which lie on real frames.
        real: The same with a row that is not real after each level, ``[V, N + levels]``.
    """

    points: Tensor
    mask: Tensor
    real: Tensor


class FoldedRefinement:
    """`TemporalRefinement` for many queries and videos at once.

    Args:
        plain: The definition.
    """

    def __init__(self, plain: TemporalRefinement) -> None:
        attention = plain.self_attention
        feed, feed_bias, back, back_bias = plain.feed_forward.parameters()
        self.heads = attention.heads
        self._cross = plain.cross_attention
        self._gates: list[float] = plain.gate.sigmoid().tolist()
        inputs = torch.cat([attention.query.weight, attention.key.weight, attention.value.weight])
        bias = torch.cat([attention.query.bias, attention.key.bias, attention.value.bias])
        self._inputs = inputs.view(3 * self.heads, -1, inputs.shape[1]).transpose(1, 2).contiguous()  # [3H, C, C/H]
        self._inputs_bias = (bias - inputs @ attention.output.bias).view(3 * self.heads, 1, -1)
        self._output = attention.output.weight.t()
        self._feed, self._feed_bias = feed, feed_bias - feed @ back_bias
        self._back = back.t()
        self._norms = [
            (plain.cross_norm.weight, plain.cross_norm.bias + attention.output.bias),
            (plain.self_norm.weight, plain.self_norm.bias + back_bias),
            (plain.feed_forward_norm.weight, plain.feed_forward_norm.bias),
        ]

    def plan(self, video_mask: Tensor) -> Timeline:
        """The timeline of videos with mask ``[V, T]``."""
        width = self._output.shape[0]
        position = position_encoding(video_mask, width).to(self._inputs.dtype).flatten(0, 1)
        located = self._inputs_bias.repeat(1, len(position), 1)
        looks = 2 * self.heads  # what looks and is looked at has a place, what is seen has none
        located[:looks] += position @ self._inputs[:looks]
        return Timeline(video_mask, bool(video_mask.all()), position, located)

    def cross(self, tokens: Tensor, query_mask: Tensor) -> Crossing:
        """Prepares the cross-attention to q̂ ``[Q, K, L, C]`` with mask ``[Q, L]``."""
        attention, heads = self._cross, self.heads
        queries, steps, length, width = tokens.shape
        scale = (width // heads) ** -0.5

        def split(values: Tensor, weight: Tensor) -> Tensor:  # [H, Q·K·L, C/H] · [H, C/H, C]
            product = values.view(-1, heads, width // heads).transpose(0, 1) @ weight.view(heads, -1, width)
            return product.view(heads, queries, steps, length, width).permute(1, 2, 0, 3, 4).flatten(2, 3)

        keys = attention.key(tokens) * scale
        bias = (keys * attention.query.bias).view(queries, steps, length, heads, -1).sum(-1).transpose(2, 3)
        bias = bias.masked_fill(~query_mask[:, None, None], -torch.inf).reshape(queries, steps, heads * length, 1)
        # Shares of the tokens are 1 in total for each head, so a bias may be added to all tokens of all heads.
        out = split(attention.value(tokens), attention.output.weight.t().contiguous()) + attention.output.bias / heads
        return Crossing(split(keys, attention.query.weight), bias, out)

    def fuse(self, pooled: Tensor, hidden: Tensor, index: int) -> Tensor:
        """As `TemporalRefinement.fuse`; the state is used up."""
        return hidden.lerp_(pooled, self._gates[index])

    def refine(self, x: Tensor, crossing: Crossing, step: int, timeline: Timeline) -> Tensor:
        """As `TemporalRefinement.forward`: ``[Q, V·T, C]``, which is used up, to the same."""
        queries, rows, width = x.shape
        frames = timeline.video_mask.shape[1]
        located = (x + timeline.position).transpose(1, 2)
        logits = torch.baddbmm(crossing.bias[:, step], crossing.into[:, step], located)  # [Q, H·L, V·T]
        attention = logits.view(queries, self.heads, -1, rows).softmax(2).view_as(logits)
        x = self._norm(x.baddbmm_(attention.transpose(1, 2), crossing.out[:, step]), 0)
        into = x.view(-1, width).expand(len(self._inputs), -1, -1)
        if queries == 1:
            inputs = torch.baddbmm(timeline.located, into, self._inputs)
        else:
            inputs = torch.bmm(into, self._inputs)
            inputs.view(-1, queries, *timeline.located.shape[1:]).add_(timeline.located[:, None])
        q, k, v = inputs.view(3, self.heads, -1, frames, width // self.heads).transpose(1, 2)
        mask = None if timeline.whole else timeline.video_mask[:, None, None].repeat(queries, 1, 1, 1)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(-1, width)
        x = self._norm(x.view(-1, width).addmm_(attended, self._output), 1)
        fed = F.linear(x, self._feed, self._feed_bias).relu_()
        return self._norm(x.addmm_(fed, self._back), 2).view(queries, rows, width)

    def _norm(self, x: Tensor, index: int) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *self._norms[index])


class FoldedPredictor:
    """Pyramid and heads of a model: of classes, and of offsets where it has them.

    Args:
        pyramid: The definition.
        heads: Likewise.
        level_scale: Factor of the offsets of each level.
    """

    def __init__(self, pyramid: Pyramid, heads: Sequence[ConvHead], level_scale: Tensor) -> None:
        self._strides = pyramid.strides
        self._level_scale = level_scale
        self._levels = [[_fold_halving(halving) for halving in level.children()] for level in pyramid.levels]
        firsts, _, seconds = zip(*heads, strict=True)
        self._first = torch.cat([conv.weight for conv in firsts]).permute(2, 1, 0).contiguous()  # [3, C, heads·C]
        self._first_bias = torch.cat([conv.bias for conv in firsts])
        taps = [
            torch.block_diag(*(conv.weight[..., tap].t() for conv in seconds))  # type: ignore[no-untyped-call]
            for tap in range(3)
        ]
        self._second = torch.cat(taps, dim=1)  # [heads·C, 3·outputs]
        self._second_bias = torch.cat([conv.bias for conv in seconds])

    def plan(self, video_mask: Tensor) -> PointPlan:
        """The points of videos with mask ``[V, T]``."""
        frames = video_mask.shape[1]
        strides = tuple(stride for stride in self._strides if stride <= frames)
        masks = [level_mask(video_mask, stride) for stride in strides]
        real = torch.cat([F.pad(mask, (0, 1)) for mask in masks], dim=1)
        return PointPlan(level_points(frames, self._strides, video_mask.device), torch.cat(masks, dim=1), real)

    def predict(self, hidden: Tensor, plan: PointPlan) -> tuple[Tensor, Tensor | None]:
        """What the heads say of every point.

        Args:
            hidden: ReLU of the last state, ``[V·Q, T, C]``; all queries of the first video come first.
            plan: Of the V videos.

        Returns:
            Logits of classes ``[B, N]``, and offsets ``[B, N, 2]`` or None.
        """
        batch, frames, width = hidden.shape
        levels = [hidden]
        for stride, halvings in zip(self._strides[1:], self._levels, strict=True):
            if stride <= frames:
                levels.append(_halve(hidden, halvings))
        gap = hidden.new_zeros(batch, 1, width)
        rows = torch.cat([piece for level in levels for piece in (level, gap)], dim=1).view(-1, width)
        real = plan.real.repeat_interleave(batch // len(plan.real), dim=0).view(-1, 1)
        rows.mul_(real)
        x = torch.addmm(self._first_bias, rows, self._first[1])
        x[1:].addmm_(rows[:-1], self._first[0])
        x[:-1].addmm_(rows[1:], self._first[2])
        before, here, after = (x.relu_().mul_(real) @ self._second).chunk(3, dim=1)
        found = here + self._second_bias
        found[1:] += before[:-1]
        found[:-1] += after[1:]
        pieces = torch.split(found.view(batch, -1, found.shape[1]), [level.shape[1] + 1 for level in levels], dim=1)
        logits = torch.cat([piece[:, :-1, 0] for piece in pieces], dim=1)
        if found.shape[1] == 1:
            return logits, None
        scaled = [piece[:, :-1, 1:].exp() * scale for piece, scale in zip(pieces, self._level_scale, strict=False)]
        return logits, torch.cat(scaled, dim=1)


_Halving = tuple[Tensor, Tensor, Tensor, Tensor]


def _fold_halving(plain: nn.Module) -> _Halving:
    """Of a `Downsample`, its kernel as a matrix on pairs of frames ``[C, 2C]``, its bias, and both of its norm."""
    kernel, bias, scale, shift = plain.parameters()
    return kernel.transpose(1, 2).flatten(1), bias, scale, shift


def _halve(x: Tensor, halvings: Sequence[_Halving]) -> Tensor:
    for kernel, bias, scale, shift in halvings:
        batch, frames, width = x.shape
        pairs = x[:, : frames // 2 * 2].reshape(batch, frames // 2, 2 * width)
        x = F.layer_norm(F.linear(pairs, kernel, bias), (width,), scale, shift).relu_()
    return x
