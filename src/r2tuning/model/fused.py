"""Training without the large tensors: patches are projected and pooled a few frames at a time.

`R2Block.project_video` and `SpatialPooling` are the definition; this gives the same numbers and gradients. What differs
is that a part of the frames stays in the processor's cache from CLIP's features to the pooled frames, that of all
patches only two tensors of width C are kept for the gradient, and that features are frozen, so that the gradients of
the first LayerNorm need no gradient of its input:

    z = m⊙(γ⊙x̂ + β)/s, y = W z + b      with x̂ the normalized features, m the dropout mask, s the share it keeps
    G = Σ dy (m⊙x̂)ᵀ, H = Σ dy mᵀ        over all patches, both [C, D]
    dW = (G·diag γ + H·diag β)/s, dγ = Σ_c W⊙G/s, dβ = Σ_c W⊙H/s

`v_map` moves to the side of the query: (q Wqᵀ + bq)(v Wvᵀ + bv)ᵀ = (q Wqᵀ + bq)Wv·v + a constant of the token, which
the softmax over patches does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from r2tuning.model.bits import draw_bits, keep, kept_share, spread_bits
from r2tuning.model.block import BlockOutput, R2Block
from r2tuning.model.layers import FeatureMap, temporal_endpoints

CACHE = 2**20
"""Numbers of one part of the frames on a CPU: few enough for its caches, enough for full matrix products."""

MEMORY = 2**28
"""The same on a GPU, where parts only bound the memory."""

EPSILON = 1e-5


def run_fused(
    block: R2Block,
    video: Tensor,
    query: Tensor,
    video_mask: Tensor,
    query_mask: Tensor,
    video_index: Tensor | None,
) -> tuple[BlockOutput, Tensor]:
    """Runs the R² Block; arguments are those of `R2Tuning.forward`, none left out but the last.

    Returns:
        What `R2Block.forward` returns, and the video's mask for each query, bool ``[B, T]``.
    """
    tokens = block.query_map(block.select(query))
    seats = _Seats.plan(query_mask, video_index, len(video))
    cls: dict[int, Tensor] = {}

    def pool(layer: int) -> Tensor:
        asked = seats.seat_tokens(block.spatial_pooling.ask(tokens[:, layer]))
        found, seen = project_and_pool(
            block.video_map,
            block.choose(video, layer),
            video_mask,
            asked,
            endpoints=block.config.family == "grounding",
        )
        cls[layer] = seats.share(found)
        return block.spatial_pooling.open_gate(cls[layer], seats.pool(seen, tokens[:, layer]), layer)

    asked_mask = seats.share(video_mask)
    hidden, last = block.walk(pool, tokens, asked_mask, query_mask)
    video_cls = torch.stack([cls[layer] for layer in range(block.config.steps)], dim=1)
    return BlockOutput(hidden, tokens, video_cls, last), asked_mask


@dataclass(frozen=True)
class _Seats:
    """The tokens of all queries of a video beside each other, without padding, so that it is projected once for all.

    Attributes:
        video: int64 ``[B]``, the video that each query asks.
        token: int64 ``[N]``, places in the flattened ``[B, L]`` of all real tokens, by video, then by query.
        seat: int64 ``[N]``, where they sit in the flattened ``[V, S]``.
        most: Most tokens of a video, S.
        queries: The queries of each video and their lengths.
    """

    video: Tensor
    token: Tensor
    seat: Tensor
    most: int
    queries: list[list[tuple[int, int]]]

    @classmethod
    def plan(cls, query_mask: Tensor, video_index: Tensor | None, videos: int) -> _Seats:
        video = torch.arange(videos, device=query_mask.device) if video_index is None else video_index
        queries: list[list[tuple[int, int]]] = [[] for _ in range(videos)]
        for query, (asked, length) in enumerate(zip(video.tolist(), query_mask.sum(1).tolist(), strict=True)):
            queries[asked].append((query, length))
        most = max(sum(length for _, length in group) for group in queries)
        longest = query_mask.shape[1]
        token: list[int] = []
        seat: list[int] = []
        for number, group in enumerate(queries):
            taken = number * most
            for query, length in group:
                token += range(query * longest, query * longest + length)
                seat += range(taken, taken + length)
                taken += length
        device = query_mask.device
        return cls(video, torch.tensor(token, device=device), torch.tensor(seat, device=device), most, queries)

    def seat_tokens(self, asked: Tensor) -> Tensor:
        """``[B, L, C]`` → ``[V, S, C]``; empty seats hold zeros."""
        width = asked.shape[-1]
        seats = asked.new_zeros(len(self.queries) * self.most, width)
        return seats.index_copy(0, self.seat, asked.flatten(0, 1)[self.token]).view(-1, self.most, width)

    def pool(self, seen: Tensor, query: Tensor) -> Tensor:
        """The most of what a query's tokens see (Eq. 5), of ``[V, T, S, C]`` and q̂ ``[B, L, C]`` gives ``[B, T, C]``.

        Query by query, as the tokens of one fit into the processor's cache.
        """
        pooled: list[Tensor] = [seen] * len(query)
        for frames, group in zip(seen.unbind(0), self.queries, strict=True):
            lengths = [length for _, length in group]
            pieces = torch.split(frames, [*lengths, self.most - sum(lengths)], dim=1)
            for (number, length), piece in zip(group, pieces, strict=False):
                pooled[number] = (piece + query[number, :length]).amax(dim=1)
        return torch.stack(pooled)

    def share(self, values: Tensor) -> Tensor:
        """``[V, ...]`` → ``[B, ...]``."""
        return values.index_select(0, self.video)


@dataclass(frozen=True)
class Part:
    """Frames of some videos that are worked on at once."""

    videos: slice
    frames: slice


def plan_parts(video_mask: Tensor, tokens: int, width: int) -> list[Part]:
    """Parts that cover every real frame; on a CPU no padding.

    Args:
        video_mask: bool ``[V, T]``, real frames first.
        tokens: P + 1.
        width: Numbers of each token.

    Example:
        >>> plan_parts(torch.tensor([[True, False]]), 50, 768)
        [Part(videos=slice(0, 1, None), frames=slice(0, 1, None))]
    """
    videos, frames = video_mask.shape
    if video_mask.device.type != "cpu":
        together = max(1, MEMORY // (frames * tokens * width))
        return [Part(slice(v, min(v + together, videos)), slice(0, frames)) for v in range(0, videos, together)]
    most = max(1, CACHE // (tokens * width))
    parts = []
    for video, length in enumerate(video_mask.sum(1).tolist()):
        pieces = -(-length // most)
        ends = [length * piece // pieces for piece in range(pieces + 1)] if length else []
        parts += [Part(slice(video, video + 1), slice(*pair)) for pair in pairwise(ends)]
    return parts


def project_and_pool(
    video_map: FeatureMap, video: Tensor, video_mask: Tensor, asked: Tensor, *, endpoints: bool
) -> tuple[Tensor, Tensor]:
    """Projected [CLS] tokens, and the patches that every query token looks at (Eq. 2 and 4).

    Args:
        video_map: Projects patches; in training mode it drops entries (`r2tuning.model.bits`).
        video: ``[V, J, T, P+1, Dv]``, fp16 or fp32; the mean of the J layers is what is projected.
        video_mask: bool ``[V, T]``, real frames first.
        asked: Query tokens after `SpatialPooling.ask`, ``[V, S, C]``: S tokens look at each video.
        endpoints: Whether temporal endpoints enter beside the features.

    Returns:
        ``[V, T, C]`` and ``[V, T, S, C]``; what they say of padded frames means nothing.
    """
    share = kept_share(video_map.dropout) if video_map.training else 1.0
    weights = list(video_map.parameters())  # weight and bias of LayerNorm, Linear, LayerNorm, Linear
    parts = plan_parts(video_mask, video.shape[3], weights[0].numel())
    ends = temporal_endpoints(video_mask) if endpoints else None
    found: tuple[Tensor, Tensor] = _ProjectAndPool.apply(  # type: ignore[no-untyped-call]
        parts, share, video, ends, asked, *weights
    )
    return found


class _ProjectAndPool(torch.autograd.Function):
    """`project_and_pool` and its gradient, by hand. Per part: t frames, V videos of it, S query tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        parts: Sequence[Part],
        share: float,
        video: Tensor,
        endpoints: Tensor | None,
        asked: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        gamma, beta, first, first_bias, inner_gamma, inner_beta, second, second_bias = weights
        kind, precision = video.device.type, first.dtype
        product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else precision
        first, first_bias, second, second_bias = (x.to(product) for x in (first, first_bias, second, second_bias))
        asked = asked.to(product)
        hidden, width = first.shape
        videos, _, frames, _, _ = video.shape
        cls = asked.new_zeros(videos, frames, hidden)
        seen = asked.new_zeros(videos, frames, asked.shape[1], hidden)
        kept: list[Tensor | None] = []
        place = _make_place(parts, share, video, max(width, hidden))
        with torch.autocast(kind, enabled=False):
            for part in parts:
                x = read_part(video, endpoints, part, precision)
                bits = _draw(x.numel(), share, x.device)
                z = keep(F.layer_norm(x, (width,), gamma / share, beta / share), _spread(bits, x.numel(), place))
                y = F.linear(z.to(product), first, first_bias).relu_()
                inner_bits = _draw(y.numel(), share, x.device)
                n = _normalize_inner(y.to(precision), inner_gamma / share, inner_beta / share, inner_bits, place)
                v = F.linear(n.to(product), second, second_bias)  # [V, t, P+1, C]
                logits = asked[part.videos] @ v.flatten(1, 2).transpose(1, 2)
                attention = logits.view(*logits.shape[:2], *v.shape[1:3]).softmax(dim=-1, dtype=precision)
                seen[part.videos, part.frames] = attention.to(product).transpose(1, 2) @ v
                cls[part.videos, part.frames] = v[..., 0, :]
                kept += [bits, inner_bits, y, v, attention]
        ctx.parts, ctx.share, ctx.product = parts, share, product
        ctx.save_for_backward(video, endpoints, asked, *weights, *kept)
        return cls, seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cls_gradient: Tensor, seen_gradient: Tensor) -> tuple[Tensor | None, ...]:
        video, endpoints, asked, *rest = ctx.saved_tensors
        gamma, beta, first, _, inner_gamma, inner_beta, second, _ = weights = rest[:8]
        share, product, precision = ctx.share, ctx.product, gamma.dtype
        hidden, width = first.shape
        products = first.new_zeros(hidden, width)  # G
        masks = first.new_zeros(hidden, width)  # H
        d_asked = torch.zeros_like(asked, dtype=precision)
        d_first_bias, d_inner_gamma, d_inner_beta, d_second, d_second_bias = map(torch.zeros_like, weights[3:])
        d_video = torch.zeros_like(video) if ctx.needs_input_grad[2] else None
        place = _make_place(ctx.parts, share, video, max(width, hidden))
        for index, part in enumerate(ctx.parts):
            bits, inner_bits, y, v, attention = rest[8 + 5 * index : 13 + 5 * index]
            dv = _pool_backward(
                v, attention, asked[part.videos], seen_gradient[part.videos, part.frames], d_asked[part.videos]
            )
            dv[..., 0, :] += cls_gradient[part.videos, part.frames]
            rows, y = dv.view(-1, hidden), y.view(-1, hidden).to(precision)
            n = _normalize_inner(y, inner_gamma / share, inner_beta / share, inner_bits, place)
            _add_product(d_second, rows, n.to(product))
            d_second_bias += rows.sum(0, dtype=precision)
            dn = keep((rows @ second.to(product)).to(precision), _spread(inner_bits, y.numel(), place))
            dy, part_gamma, part_beta = _layer_norm_backward(dn, y, inner_gamma / share, inner_beta / share)
            d_inner_gamma += part_gamma / share
            d_inner_beta += part_beta / share
            dy = torch.ops.aten.threshold_backward(dy, y, 0)
            d_first_bias += dy.sum(0)
            dy = dy.to(product)
            x = read_part(video, endpoints, part, precision)
            mask = _spread(bits, x.numel(), place)
            _add_product(products, dy, keep(F.layer_norm(x, (width,)), mask).view(-1, width).to(product))
            if mask is not None:
                _add_product(masks, dy, mask.view(-1, width).to(product))  # of -1 and 0
            if d_video is not None:
                dz = keep((dy @ first.to(product)).to(precision).view_as(x), mask)
                dx, _, _ = _layer_norm_backward(dz, x, gamma / share, beta / share)
                d_video[part.videos, :, part.frames] += (dx[..., : video.shape[-1]] / video.shape[1])[:, None]
        masks = d_first_bias[:, None] if share == 1 else masks.neg_()
        d_first = (products * gamma + masks * beta) / share
        d_gamma, d_beta = ((first * sums).sum(0) / share for sums in (products, masks))
        gradients = (d_gamma, d_beta, d_first, d_first_bias, d_inner_gamma, d_inner_beta, d_second, d_second_bias)
        return None, None, d_video, None, d_asked, *gradients


def read_part(video: Tensor, endpoints: Tensor | None, part: Part, precision: torch.dtype) -> Tensor:
    """Features with their endpoints: one copy, which changes the precision too.

    Args:
        video: ``[V, J, T, P+1, Dv]``; the mean of the J layers is taken.
        endpoints: ``[V, T, 2]`` or None.
        part: What to read.
        precision: To give.

    Returns:
        ``[v, t, P+1, Dv or Dv + 2]``, contiguous.
    """
    layers = video[part.videos, :, part.frames]
    layer = layers[:, 0] if layers.shape[1] == 1 else layers.to(precision).mean(dim=1)
    if endpoints is None:
        return layer.to(precision).contiguous()
    wide = layer.new_empty(*layer.shape[:-1], layer.shape[-1] + 2, dtype=precision)
    wide[..., :-2] = layer
    wide[..., -2:] = endpoints[part.videos, part.frames, None]
    return wide


def _draw(count: int, share: float, device: torch.device) -> Tensor | None:
    return None if share == 1 else draw_bits(count, share, device)


def _make_place(parts: Sequence[Part], share: float, video: Tensor, width: int) -> Tensor | None:
    """For dropout masks of the largest part of ``[V, J, T, P+1, Dv]``, one at a time, of so many numbers a patch."""
    if share == 1:
        return None
    most = max((video[part.videos, 0, part.frames, :, 0].numel() for part in parts), default=0)
    return torch.empty(-(-most * width // 64) * 64, dtype=torch.int32, device=video.device)


def _spread(bits: Tensor | None, count: int, place: Tensor | None) -> Tensor | None:
    return None if bits is None else spread_bits(bits, count, place)


def _normalize_inner(y: Tensor, gamma: Tensor, beta: Tensor, bits: Tensor | None, place: Tensor | None) -> Tensor:
    """Inner LayerNorm and dropout; both are divided by the share that is kept."""
    return keep(F.layer_norm(y, y.shape[-1:], gamma, beta), _spread(bits, y.numel(), place))


def _pool_backward(v: Tensor, attention: Tensor, asked: Tensor, d_seen: Tensor, d_asked: Tensor) -> Tensor:
    """The gradient of v ``[V, t, P+1, C]``; that of ``asked [V, S, C]`` is added to ``d_asked``."""
    # Products without a transposed second factor and with S innermost in neither are several times faster.
    d_attention = (v @ d_seen.transpose(2, 3).contiguous()).permute(0, 3, 1, 2).contiguous()
    precision = attention.dtype
    d_logits = torch.ops.aten._softmax_backward_data(d_attention.to(precision), attention, -1, precision).to(v.dtype)
    d_asked += d_logits.flatten(2) @ v.flatten(1, 2)
    weight = torch.cat([attention.to(v.dtype), d_logits], dim=1).permute(0, 2, 3, 1)
    dv: Tensor = weight @ torch.cat([d_seen, asked[:, None].expand_as(d_seen)], dim=2)
    return dv


def _layer_norm_backward(gradient: Tensor, x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    shape = x.shape[-1:]
    _, mean, deviation = torch.native_layer_norm(x, shape, gamma, beta, EPSILON)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
        gradient, x, shape, mean, deviation, gamma, beta, [True, True, True]
    )
    return found


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds leftᵀ right, ``[n, a]`` and ``[n, b]``."""
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right)
    else:
        total += left.t() @ right
