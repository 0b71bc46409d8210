"""Projects and pools patches with little memory for the gradient; used in place of the plain modules for training.

`R2Block.project_video` and `pool_patches` define the values; gradients are those that autograd would find. Parts of the
frames stay in the processor's cache, of all patches only one tensor of width C and the attention are kept for the
gradient, and the rest is recomputed.

A frame has 50 patches and is pooled for about 12 tokens, so the second linear layer v̂ = W₂ n + b₂ is applied after the
pooling: logits are (W₂ᵀ u)ᵀ n, because the softmax ignores b₂, and Σ a v̂ = W₂ (Σ a n) + b₂, because a sums to 1.

CLIP's features are frozen, so the gradients of the first LayerNorm need no gradient of its input:

    z = m⊙(γ⊙x̂ + β)/s, y = W z + b      with x̂ the normalized features, m the dropout mask, s the share it keeps
    G = Σ dy (m⊙x̂)ᵀ, H = Σ dy mᵀ        summed over all patches, both [C, D]
    dW = (G·diag γ + H·diag β)/s, dγ = Σ_c W⊙G/s, dβ = Σ_c W⊙H/s

Dropout masks are packed random bits, one bit per entry. PyTorch's dropout draws one random number per entry, which on a
CPU takes longer than the matrix products around it; here one random word serves 64 entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from r2tuning.model.layers import FeatureMap
from r2tuning.model.pooling import Pairs, Part, attend, plan_parts, read_part

EPSILON = 1e-5
"""Of every LayerNorm."""

LEVELS = 256
"""Probabilities of keeping an entry are multiples of 1/256; 0.5 takes one random word for 64 entries."""


def project_and_pool(
    video_map: FeatureMap,
    video: Tensor,
    video_mask: Tensor,
    endpoints: Tensor | None,
    query: Tensor,
    tokens: Tensor,
    pairs: Pairs,
    first: int = 0,
) -> tuple[Tensor, Tensor]:
    """Projects the patches of one layer and pools them for every query (Eq. 2, 4 and 5).

    Args:
        video_map: Projects patches; in training mode with packed dropout masks.
        video: ``[V, J, T, P+1, Dv]``, in any precision; the mean of the J layers is projected.
        video_mask: bool ``[V, T]``, real frames first.
        endpoints: From `temporal_endpoints`, ``[V, T, 2]``; None for the saliency family.
        query: As for `pool_patches`.
        tokens: As for `pool_patches`.
        pairs: As for `pool_patches`.
        first: The first token of a frame to pool; 1 leaves out [CLS].

    Returns:
        As `pool_patches`: ``[V, T, C]`` and ``[B, T, C]``.
    """
    share = kept_share(video_map.dropout) if video_map.training else 1.0
    weights = list(video_map.parameters())  # weight and bias of LayerNorm, Linear, LayerNorm, Linear
    parts = plan_parts(video_mask, video.shape[3] * weights[0].numel())
    found: tuple[Tensor, Tensor] = _ProjectAndPool.apply(  # type: ignore[no-untyped-call]
        parts, pairs, share, first, video_mask, video, endpoints, query, tokens, *weights
    )
    cls, pooled = found
    return cls, pooled[pairs.rank]


class _ProjectAndPool(torch.autograd.Function):
    """`project_and_pool` with its gradient. A part has t frames of v videos with S query tokens each."""

    @staticmethod
    def forward(
        ctx: Any,
        parts: Sequence[Part],
        pairs: Pairs,
        share: float,
        first_pooled: int,
        video_mask: Tensor,
        video: Tensor,
        endpoints: Tensor | None,
        query: Tensor,
        tokens: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        gamma, beta, first, first_bias, inner_gamma, inner_beta, second, second_bias = weights
        kind, precision = video.device.type, first.dtype
        product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else precision
        first, first_bias, second, second_bias = (x.to(product) for x in (first, first_bias, second, second_bias))
        hidden, width = first.shape
        cls = query.new_zeros(*video_mask.shape, hidden)
        pooled = query.new_zeros(len(pairs.order), video_mask.shape[1], hidden)
        best = torch.zeros(pooled.shape, dtype=torch.int16, device=video.device)  # the token with the maximum of Eq. 5
        kept: list[Tensor | None] = []
        place = _allocate_mask(parts, share, video, max(width, hidden))
        with torch.autocast(kind, enabled=False):
            moved = query.to(product) @ second  # to the space of n
            for part in parts:
                x = read_part(video, video_mask, endpoints, part, precision)
                bits = _draw(x.numel(), share, x.device)
                z = keep(F.layer_norm(x, (width,), gamma / share, beta / share), _spread(bits, x.numel(), place))
                y = F.linear(z.to(product), first, first_bias).relu_()
                inner_bits = _draw(y.numel(), share, x.device)
                n = _normalize_inner(y.to(precision), inner_gamma / share, inner_beta / share, inner_bits, place)
                n = n.to(product)  # [v, t, P+1, C]
                attention = attend(n[:, :, first_pooled:], moved[part.videos])
                mixed = attention.transpose(1, 2).to(product) @ n[:, :, first_pooled:]  # [v, t, S, C]
                seen = F.linear(mixed, second, second_bias)
                seen += tokens[part.videos, None]
                for of_video, rows, lengths in zip(
                    seen, pairs.rows[part.videos], pairs.lengths[part.videos], strict=True
                ):
                    for row, of_query in enumerate(of_video[:, : sum(lengths)].split(lengths, dim=1), rows.start):
                        pooled[row, part.frames], best[row, part.frames] = of_query.max(dim=1)
                cls[part.videos, part.frames] = F.linear(n[..., 0, :], second, second_bias)
                kept += [bits, inner_bits, y, mixed, attention]
        ctx.parts, ctx.pairs, ctx.share, ctx.product, ctx.first_pooled = parts, pairs, share, product, first_pooled
        ctx.save_for_backward(video_mask, video, endpoints, query, tokens, best, *weights, *kept)
        return cls, pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cls_gradient: Tensor, pooled_gradient: Tensor) -> tuple[Tensor | None, ...]:
        video_mask, video, endpoints, query, tokens, best, *rest = ctx.saved_tensors
        gamma, beta, first, _, inner_gamma, inner_beta, second, _ = weights = rest[:8]
        pairs, share, product, precision = ctx.pairs, ctx.share, ctx.product, gamma.dtype
        hidden, width = first.shape
        products = first.new_zeros(hidden, width)  # G
        masks = first.new_zeros(hidden, width)  # H
        moved = query.to(product) @ second.to(product)
        d_moved, d_tokens = (torch.zeros_like(x, dtype=precision) for x in (query, tokens))
        d_first_bias, d_inner_gamma, d_inner_beta, d_second, d_second_bias = map(torch.zeros_like, weights[3:])
        d_video = torch.zeros_like(video) if ctx.needs_input_grad[5] else None
        place = _allocate_mask(ctx.parts, share, video, max(width, hidden))
        plain = torch.ones_like(gamma), torch.zeros_like(beta)  # PyTorch is twice as slow without
        for index, part in enumerate(ctx.parts):
            bits, inner_bits, y, mixed, attention = rest[8 + 5 * index : 13 + 5 * index]
            d_seen = torch.zeros_like(mixed)
            for of_video, rows, lengths in zip(
                d_seen, pairs.rows[part.videos], pairs.lengths[part.videos], strict=True
            ):
                for row, of_query in enumerate(of_video[:, : sum(lengths)].split(lengths, dim=1), rows.start):
                    where = best[row, part.frames, None].long()
                    of_query.scatter_(1, where, pooled_gradient[row, part.frames, None].to(product))
            d_tokens[part.videos] += d_seen.sum(1, dtype=precision)
            d_cls = cls_gradient[part.videos, part.frames].to(product)
            y = y.to(precision)
            n = _normalize_inner(y, inner_gamma / share, inner_beta / share, inner_bits, place).to(product)
            for gradient, x in ((d_seen, mixed), (d_cls, n[..., 0, :])):
                _add_product(d_second, gradient.reshape(-1, hidden), x.reshape(-1, hidden))
                d_second_bias += gradient.reshape(-1, hidden).sum(0, dtype=precision)
            d_mixed = d_seen @ second.to(product)
            patches = n[:, :, ctx.first_pooled :]
            dn = _pool_backward(patches, attention, moved[part.videos], d_mixed, d_moved[part.videos])
            if ctx.first_pooled:
                dn = F.pad(dn, (0, 0, ctx.first_pooled, 0))
            dn[..., 0, :] += d_cls @ second.to(product)
            dn = keep(dn.to(precision), _spread(inner_bits, y.numel(), place)).view(-1, hidden)
            y = y.view(-1, hidden)
            dy, part_gamma, part_beta = _layer_norm_backward(dn, y, inner_gamma / share, inner_beta / share)
            d_inner_gamma += part_gamma / share
            d_inner_beta += part_beta / share
            dy = torch.ops.aten.threshold_backward(dy, y, 0)
            d_first_bias += dy.sum(0)
            dy = dy.to(product)
            x = read_part(video, video_mask, endpoints, part, precision)
            mask = _spread(bits, x.numel(), place)
            _add_product(products, dy, keep(F.layer_norm(x, (width,), *plain), mask).view(-1, width).to(product))
            if mask is not None:
                _add_product(masks, dy, mask.view(-1, width).to(product))  # of -1 and 0
            if d_video is not None:
                dz = keep((dy @ first.to(product)).to(precision).view_as(x), mask)
                dx, _, _ = _layer_norm_backward(dz, x, gamma / share, beta / share)
                d_video[part.videos, :, part.frames] += (dx[..., : video.shape[-1]] / video.shape[1])[:, None]
        d_query = d_moved @ second.t()
        d_second += (query.transpose(1, 2) @ d_moved).sum(0)
        masks = d_first_bias[:, None] if share == 1 else masks.neg_()
        d_first = (products * gamma + masks * beta) / share
        d_gamma, d_beta = ((first * sums).sum(0) / share for sums in (products, masks))
        gradients = (d_gamma, d_beta, d_first, d_first_bias, d_inner_gamma, d_inner_beta, d_second, d_second_bias)
        return None, None, None, None, None, d_video, None, d_query, d_tokens, *gradients


def _normalize_inner(y: Tensor, gamma: Tensor, beta: Tensor, bits: Tensor | None, place: Tensor | None) -> Tensor:
    return keep(F.layer_norm(y, y.shape[-1:], gamma, beta), _spread(bits, y.numel(), place))


def _pool_backward(n: Tensor, attention: Tensor, moved: Tensor, d_mixed: Tensor, d_moved: Tensor) -> Tensor:
    """Returns the gradient of n ``[v, t, P+1, C]`` and adds that of ``moved [v, S, C]`` to ``d_moved``."""
    # Products without a transposed second factor and with S innermost in neither are several times faster.
    d_attention = (n @ d_mixed.transpose(2, 3).contiguous()).permute(0, 3, 1, 2).contiguous()
    precision = attention.dtype
    d_logits = torch.ops.aten._softmax_backward_data(d_attention.to(precision), attention, -1, precision).to(n.dtype)
    d_moved += d_logits.flatten(2) @ n.flatten(1, 2)
    weight = torch.cat([attention.to(n.dtype), d_logits], dim=1).permute(0, 2, 3, 1)
    dn: Tensor = weight @ torch.cat([d_mixed, moved[:, None].expand_as(d_mixed)], dim=2)
    return dn


def _layer_norm_backward(gradient: Tensor, x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    shape = x.shape[-1:]
    _, mean, deviation = torch.native_layer_norm(x, shape, gamma, beta, EPSILON)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
        gradient, x, shape, mean, deviation, gamma, beta, [True, True, True]
    )
    return found


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds leftᵀ right, of ``[n, a]`` and ``[n, b]``, to ``total [a, b]``."""
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right)
    else:
        total += left.t() @ right


def kept_share(dropout: float) -> float:
    """Probability of keeping an entry: 1 − dropout rounded to a multiple of 1/256 above 0.

    Dividing by it, rather than by 1 − dropout, keeps the expected value exact.

    Example:
        >>> kept_share(0.5), kept_share(0.3) * 256, kept_share(0.0)
        (0.5, 179.0, 1.0)
    """
    return max(1, round(LEVELS * (1 - dropout))) / LEVELS


def draw_bits(count: int, share: float, device: torch.device) -> Tensor:
    """Draws independent random bits that are 1 with a given probability.

    The binary digits of the probability, last one first, combine one random word each: ``or`` for a 1, ``and`` for a 0.
    Each step halves the probability so far and adds a half for a 1.

    Args:
        count: Number of bits.
        share: Probability of a 1: a multiple of 1/256 below 1.
        device: Where to draw, with PyTorch's default generator.

    Returns:
        int32, ``count`` bits or a few more.

    Example:
        >>> draw_bits(100, 0.5, torch.device("cpu")).shape
        torch.Size([4])
    """
    digits = round(share * LEVELS)
    words = torch.zeros(-(-count // 64), dtype=torch.int64, device=device)
    first = (digits & -digits).bit_length() - 1  # trailing zeros leave the probability at 0
    for place in range(first, LEVELS.bit_length() - 1):
        random = torch.empty_like(words).random_(-(2**63), None)
        words = words | random if digits >> place & 1 else words & random
    return words.view(torch.int32)


def spread_bits(words: Tensor, count: int, place: Tensor | None = None) -> Tensor:
    """Turns the first ``count`` bits into integers for `keep`: -1 for a 1, 0 for a 0.

    Args:
        words: int32, from `draw_bits`.
        count: Number of entries.
        place: int32, memory for at least 32 numbers per word, reused so that it stays in the processor's cache; None
            allocates it.

    Returns:
        int32 ``[count]``.

    Example:
        >>> spread_bits(torch.tensor([0b101], dtype=torch.int32), 3).tolist()
        [-1, 0, -1]
    """
    shifts = torch.arange(31, -1, -1, dtype=torch.int32, device=words.device)
    place = words.new_empty(32 * len(words)) if place is None else place[: 32 * len(words)]
    torch.bitwise_left_shift(words, shifts[:, None], out=place.view(32, -1))
    return place.bitwise_right_shift_(31)[:count]


def keep(values: Tensor, mask: Tensor | None) -> Tensor:
    """Zeroes entries in place without a multiplication: a float without bits is 0.

    Args:
        values: Contiguous floats.
        mask: From `spread_bits`, one for each entry; None keeps all.

    Returns:
        The same tensor.

    Example:
        >>> keep(torch.tensor([1.5, float("inf")]), torch.tensor([-1, 0], dtype=torch.int32))
        tensor([1.5000, 0.0000])
    """
    if mask is not None:
        integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
        values.view(integer).view(-1).bitwise_and_(mask.to(integer))
    return values


def _draw(count: int, share: float, device: torch.device) -> Tensor | None:
    return None if share == 1 else draw_bits(count, share, device)


def _spread(bits: Tensor | None, count: int, place: Tensor | None) -> Tensor | None:
    return None if bits is None else spread_bits(bits, count, place)


def _allocate_mask(parts: Sequence[Part], share: float, video: Tensor, width: int) -> Tensor | None:
    """Memory for one dropout mask of the largest part, with so many entries per patch."""
    if share == 1:
        return None
    most = max((video[part.videos, 0, part.frames, :, 0].numel() for part in parts), default=0)
    return torch.empty(-(-most * width // 64) * 64, dtype=torch.int32, device=video.device)
