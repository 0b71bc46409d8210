"""Projection of patches (Eq. 2) without dropout, split so that overlapping windows of a video share its first product.

A window determines only the temporal endpoints e of a frame. The first LayerNorm (γ, β) and linear layer (W, b) see
x = [v; e]. With μ, σ of the features v and μ', σ' of x,

    W (γ⊙(x − μ')/σ' + β) + b = (σ/σ')·W_v' (v − μ)/σ + (μ − μ')/σ'·W_v' 1 + W_e' (e − μ')/σ' + c

where W' = W diag(γ) and c = W β + b. Only the first product is large, and it is the same in every window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from r2tuning.model.layers import FeatureMap
from r2tuning.model.pooling import plan_parts, read_part


@dataclass(frozen=True)
class FrameProducts:
    """What the projection of frames has in common in every window.

    Attributes:
        values: W_v' (v − μ)/σ, ``[V, K, T, P+1, C]``.
        mean: μ of the features, ``[V, K, T, P+1, 1]``.
        deviation: σ of the features with the ε of LayerNorm, in the same shape.
    """

    values: Tensor
    mean: Tensor
    deviation: Tensor

    def select(self, start: int, stop: int) -> FrameProducts:
        """The products of frames ``start`` to ``stop``."""
        return FrameProducts(*(x[:, :, start:stop] for x in (self.values, self.mean, self.deviation)))

    def append(self, other: FrameProducts) -> FrameProducts:
        """These frames, then those of ``other``."""
        pairs = (self.values, other.values), (self.mean, other.mean), (self.deviation, other.deviation)
        return FrameProducts(*(torch.cat(pair, dim=2) for pair in pairs))


def multiply_frames(video_map: FeatureMap, layers: list[Tensor], video_mask: Tensor) -> FrameProducts:
    """Multiplies features by the weights of the first linear layer.

    Args:
        video_map: The feature map.
        layers: For each of K steps, ``[V, J, T, P+1, Dv]``, of which the mean over J is read.
        video_mask: bool ``[V, T]``, real frames first.
    """
    norm, linear, _, _ = video_map.parts
    videos, _, frames, tokens, width = layers[0].shape
    weight = (linear.weight * norm.weight)[:, :width]
    shape = videos, len(layers), frames, tokens
    values = weight.new_zeros(*shape, len(weight))
    mean, deviation = weight.new_zeros(*shape, 1), weight.new_ones(*shape, 1)
    for index, layer in enumerate(layers):
        for part in plan_parts(video_mask, 4 * tokens * width):  # small, because it is read four times
            x = read_part(layer, video_mask, None, part, weight.dtype)
            center = x.mean(-1, keepdim=True)
            x = x.sub_(center)
            spread = (x.square().mean(-1, keepdim=True) + norm.eps).sqrt_()
            here = part.videos, index, part.frames
            mean[here], deviation[here] = center, spread
            values[here] = (x @ weight.t()).to(values.dtype) / spread
    return FrameProducts(values, mean, deviation)


def project_window(
    video_map: FeatureMap, frames: FrameProducts, video_mask: Tensor, endpoints: Tensor | None
) -> Tensor:
    """Finishes the projection of frames.

    Args:
        video_map: The feature map.
        frames: From `multiply_frames`.
        video_mask: bool ``[V, T]``, real frames first.
        endpoints: ``[V, T, 2]``, those of the frames, if the feature map reads them beside the features; else None.

    Returns:
        v̂, ``[V, K, T, P+1, C]``; padded frames are meaningless.
    """
    norm, linear, inner_norm, second = video_map.parts
    weight, width = linear.weight * norm.weight, len(norm.weight)
    rows = [linear.weight @ norm.bias + linear.bias]
    factors, scale = torch.ones_like(frames.mean), None
    if endpoints is not None:
        rows += [weight[:, :-2].sum(1), *weight[:, -2:].unbind(1)]
        edges = endpoints.to(weight.dtype)[:, None, :, None]  # [V, 1, T, 1, 2]
        moved = (edges.sum(-1, keepdim=True) - 2 * frames.mean) / width  # μ' − μ
        beside = edges - frames.mean - moved  # e − μ'
        squares = (width - 2) * (frames.deviation.square() - norm.eps + moved.square())
        deviation = ((squares + beside.square().sum(-1, keepdim=True)) / width + norm.eps).sqrt()
        factors = torch.cat([factors, -moved / deviation, beside / deviation], dim=-1)
        scale = frames.deviation / deviation
    projected = torch.zeros_like(frames.values)
    for index in range(projected.shape[1]):
        for part in plan_parts(video_mask, 4 * projected[0, 0, 0].numel()):
            here = part.videos, index, part.frames
            values = frames.values[here] if scale is None else frames.values[here] * scale[here]
            y = torch.addmm(values.flatten(0, 2), factors[here].flatten(0, 2), torch.stack(rows)).relu_()
            projected[here] = second(inner_norm(y)).view_as(values).to(projected.dtype)
    return projected


class WindowProjector:
    """Projects windows of one video one after the other; a window reuses the products of the one before.

    Args:
        multiply: Reads and multiplies frames ``start`` to ``stop``.
        finish: Finishes the projection of a window.
    """

    def __init__(
        self, multiply: Callable[[int, int], FrameProducts], finish: Callable[[FrameProducts], Tensor]
    ) -> None:
        self._multiply = multiply
        self._finish = finish
        self._start = self._stop = 0
        self._frames: FrameProducts | None = None

    def project(self, start: int, stop: int) -> Tensor:
        """Projects the window of frames ``start`` to ``stop``; see `project_window`."""
        if self._frames is not None and self._start <= start < self._stop < stop:
            shared = self._frames.select(start - self._start, self._stop - self._start)
            self._frames = shared.append(self._multiply(self._stop, stop))
        else:
            self._frames = self._multiply(start, stop)
        self._start, self._stop = start, stop
        return self._finish(self._frames)
