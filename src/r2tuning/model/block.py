"""The R² Block (Sec. 3.3): one set of weights, walked through the last K layers of CLIP from deep to shallow."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from r2tuning.model.config import R2Config
from r2tuning.model.layers import Attention, DropPath, FeatureMap, position_encoding, temporal_endpoints


@dataclass(frozen=True)
class BlockOutput:
    """What the block hands to pyramid, heads and losses.

    Attributes:
        hidden: ``[B, T, C]``, the state h after the last step.
        query: ``[B, K, L, C]``, projected query tokens q̂, oldest layer first.
        video_cls: ``[B, K, T, C]``, projected [CLS] tokens, oldest layer first.
        last: Index of the layer of the last step.
    """

    hidden: Tensor
    query: Tensor
    video_cls: Tensor
    last: int


class SpatialPooling(nn.Module):
    """Query-modulated spatial pooling (Eq. 4 to 6).

    Args:
        config: Shape of the model.

    Attributes:
        query_projection: w_q of Eq. 4.
        video_projection: w_v of Eq. 4.
        gate: ``[K]``; tanh of it is g of Eq. 6, one for each layer, zero at first.
    """

    def __init__(self, config: R2Config) -> None:
        super().__init__()
        self.query_projection = nn.Linear(config.hidden, config.hidden)
        self.video_projection = nn.Linear(config.hidden, config.hidden)
        self.gate = nn.Parameter(torch.zeros(config.steps))

    def forward(self, video: Tensor, query: Tensor, query_mask: Tensor, layer: int) -> Tensor:
        """Pools the patches of every frame, guided by every query token, into one token.

        Args:
            video: v̂ of one layer, ``[B or 1, T, P+1, C]``, [CLS] first.
            query: q̂ of the same layer, ``[B, L, C]``.
            query_mask: bool ``[B, L]``.
            layer: Index of the layer among the K, oldest first.

        Returns:
            e_pool, ``[B, T, C]``.
        """
        return self.combine(video[..., 0, :], self.attend(video, query) @ video, query, query_mask, layer)

    def attend(self, video: Tensor, query: Tensor) -> Tensor:
        """How much every query token looks at every patch of a frame (Eq. 4).

        Args:
            video: As for `forward`.
            query: As for `forward`.

        Returns:
            ``[B, T, L, P+1]``, [CLS] first; 1 in total for each token and frame.
        """
        scale = video.shape[-1] ** -0.5
        token = self.query_projection(query)[:, None] * scale
        attention: Tensor = (token @ self.video_projection(video).transpose(-1, -2)).softmax(dim=-1)
        return attention

    def ask(self, query: Tensor) -> Tensor:
        """Brings query tokens to where one product with v̂ gives the logits of Eq. 4, so that w_v meets no patch.

        The bias of w_v adds the same to all patches, which the softmax does not see.

        Args:
            query: q̂, ``[..., C]``.

        Returns:
            ``[..., C]``.
        """
        precision = self.query_projection.weight.dtype
        # Two products in a row would double the rounding of mixed precision, and these are small.
        with torch.autocast(query.device.type, enabled=False):
            looking = self.query_projection(query.to(precision)) * query.shape[-1] ** -0.5
            # The bias has a gradient, though it is zero: optimizers and other processes expect one.
            asked: Tensor = looking @ self.video_projection.weight + 0 * self.video_projection.bias
        return asked

    def combine(self, cls: Tensor, seen: Tensor, query: Tensor, query_mask: Tensor, layer: int) -> Tensor:
        """Makes one token of what every query token sees in a frame (Eq. 5 and 6).

        Args:
            cls: Projected [CLS] tokens, ``[B or 1, T, C]``.
            seen: Patches weighed by attention, ``[B, T, L, C]``.
            query: As for `forward`.
            query_mask: As for `forward`.
            layer: As for `forward`.

        Returns:
            e_pool, ``[B, T, C]``.
        """
        real = query.masked_fill(~query_mask[..., None], -torch.inf)
        pooled = (seen + real[:, None]).amax(dim=2)
        return self.open_gate(cls, pooled, layer)

    def open_gate(self, cls: Tensor, pooled: Tensor, layer: int) -> Tensor:
        """Adds pooled patches to [CLS] tokens, both ``[B or 1, T, C]``, as far as the layer's gate is open (Eq. 6)."""
        combined: Tensor = cls + self.gate[layer].tanh() * pooled
        return combined


class TemporalRefinement(nn.Module):
    """Recurrent temporal refinement (Eq. 7 and 8), post-norm.

    Args:
        config: Shape of the model.

    Attributes:
        gate: ``[K-1]``; its sigmoid is φ of Eq. 7, one for each layer but that with which the walk begins.
    """

    def __init__(self, config: R2Config) -> None:
        super().__init__()
        hidden = config.hidden
        self.gate = nn.Parameter(torch.zeros(config.steps - 1))
        self.cross_attention = Attention(hidden, config.heads)
        self.cross_norm = nn.LayerNorm(hidden)
        self.self_attention = Attention(hidden, config.heads)
        self.self_norm = nn.LayerNorm(hidden)
        self.feed_forward = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.ReLU(), nn.Linear(4 * hidden, hidden))
        self.feed_forward_norm = nn.LayerNorm(hidden)
        self.drop_path = DropPath(config.drop_path)

    def fuse(self, pooled: Tensor, hidden: Tensor, index: int) -> Tensor:
        """Mixes the pooled frames with the state so far (Eq. 7), by the gate of this index."""
        gate = self.gate[index].sigmoid()
        return gate * pooled + (1 - gate) * hidden

    def forward(self, fused: Tensor, query: Tensor, position: Tensor, video_mask: Tensor, query_mask: Tensor) -> Tensor:
        """Lets frames look at the query, then at each other (Eq. 8).

        Args:
            fused: ``[B, T, C]``, from `fuse`.
            query: q̂, ``[B, L, C]``.
            position: ``[B, T, C]``, from `position_encoding`.
            video_mask: bool ``[B, T]``.
            query_mask: bool ``[B, L]``.

        Returns:
            The new state h, ``[B, T, C]``.
        """
        x = fused
        x = self.cross_norm(x + self.drop_path(self.cross_attention(x + position, query, query, query_mask)))
        located = x + position
        x = self.self_norm(x + self.drop_path(self.self_attention(located, located, x, video_mask)))
        refined: Tensor = self.feed_forward_norm(x + self.drop_path(self.feed_forward(x)))
        return refined


class R2Block(nn.Module):
    """Walks the last K CLIP layers from deep to shallow and refines one state for every frame (Eq. 1).

    Args:
        config: Shape of the model.
    """

    def __init__(self, config: R2Config) -> None:
        super().__init__()
        self.config = config
        self.video_map = FeatureMap(config.video_input_width, config.hidden, config.dropout)
        self.query_map = FeatureMap(config.query_width, config.hidden, config.dropout)
        self.spatial_pooling = SpatialPooling(config)
        self.temporal_refinement = TemporalRefinement(config)

    @property
    def order(self) -> range:
        """The layers in the order of the steps, each an index among those that `select` keeps, oldest 0."""
        last = self.config.steps - 1
        return range(last + 1) if self.config.refinement == "forward" else range(last, -1, -1)

    def count_from_last(self, index: int) -> int:
        """The layer of CLIP at an index of `order`, counted from the last, which is 1; 0 for the mean of all."""
        return 0 if self.config.refinement == "mean" else self.config.layers - index

    def select(self, features: Tensor) -> Tensor:
        """The layers that the block looks at, one for each step, of ``[B, K, ...]`` (Fig. 7)."""
        if self.config.refinement == "mean":
            return features.mean(dim=1, keepdim=True)
        return features[:, :1] if self.config.refinement == "single" else features

    def choose(self, video: Tensor, step: int) -> Tensor:
        """The layers ``[V, J, ...]`` of ``[V, K, ...]`` whose mean a step looks at; as `select`, but without a copy."""
        return video if self.config.refinement == "mean" else video[:, step : step + 1]

    def project_video(self, video: Tensor, video_mask: Tensor) -> Tensor:
        """Projected patches v̂ (Eq. 2), which do not depend on the query.

        Args:
            video: ``[B, K, T, P+1, Dv]``.
            video_mask: bool ``[B, T]``.

        Returns:
            ``[B, K, T, P+1, C]``; where the block takes one step only, K is 1.
        """
        video = self.select(video)
        if self.config.family == "grounding":
            endpoints = temporal_endpoints(video_mask).to(video.dtype)[:, None, :, None]
            video = torch.cat([video, endpoints.expand(*video.shape[:-1], 2)], dim=-1)
        projected: Tensor = self.video_map(video)
        return projected

    def forward(self, projected: Tensor, query: Tensor, video_mask: Tensor, query_mask: Tensor) -> BlockOutput:
        """Refines the state of every frame, step by step.

        Args:
            projected: v̂, ``[B or 1, K, T, P+1, C]``, from `project_video`; 1 shares one video among B queries.
            query: ``[B, K, L, Dq]``.
            video_mask: bool ``[B, T]``.
            query_mask: bool ``[B, L]``.

        Returns:
            The last state and the projected query.
        """
        tokens = self.query_map(self.select(query))
        hidden, last = self.walk(
            lambda layer: self.spatial_pooling(projected[:, layer], tokens[:, layer], query_mask, layer),
            tokens,
            video_mask,
            query_mask,
        )
        video_cls = projected[..., 0, :].expand(len(query), -1, -1, -1)
        return BlockOutput(hidden, tokens, video_cls, last)

    def walk(
        self, pool: Callable[[int], Tensor], tokens: Tensor, video_mask: Tensor, query_mask: Tensor
    ) -> tuple[Tensor, int]:
        """Refines the state layer by layer (Eq. 1, 7 and 8).

        Args:
            pool: Gives e_pool ``[B, T, C]`` of a layer.
            tokens: q̂, ``[B, K, L, C]``.
            video_mask: bool ``[B, T]``.
            query_mask: bool ``[B, L]``.

        Returns:
            The last state ``[B, T, C]``, and the layer of the last step.
        """
        position = position_encoding(video_mask, self.config.hidden).to(tokens.dtype)
        order = self.order
        hidden = tokens.new_empty(0)  # there is no state before the first step
        for step, layer in enumerate(order):
            pooled = pool(layer)
            # The layer with which the walk begins has no gate, so those of the others are counted without it.
            gate = layer - 1 if self.config.refinement == "forward" else layer
            fused = pooled if step == 0 else self.temporal_refinement.fuse(pooled, hidden, gate)
            hidden = self.temporal_refinement(fused, tokens[:, layer], position, video_mask, query_mask)
        return hidden, order[-1]
