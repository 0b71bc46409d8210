"""The R² Block (Sec. 3.3): one set of weights that refines a state layer by layer, from the last CLIP layer back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from r2tuning.model.config import R2Config
from r2tuning.model.kernels import project_and_pool
from r2tuning.model.layers import (
    CrossAttention,
    DropPath,
    FeatureMap,
    SelfAttention,
    position_encoding,
    temporal_endpoints,
)
from r2tuning.model.pooling import Pairs, QuantizedTokens, pool_patches
from r2tuning.model.projection import FrameProducts, multiply_frames, project_window


@dataclass(frozen=True)
class BlockOutput:
    """Result of the block for B pairs of a query and a video.

    Attributes:
        hidden: ``[B, T, C]``, the state h after the last step.
        video_cls: ``[B, K, T, C]``, projected [CLS] tokens, oldest layer first.
    """

    hidden: Tensor
    video_cls: Tensor


class SpatialPooling(nn.Module):
    """Query-modulated spatial pooling (Eq. 4 to 6).

    Args:
        config: Shape of the model.

    Attributes:
        query_projection: w_q of Eq. 4.
        video_projection: w_v of Eq. 4.
        gate: ``[K]``; its tanh is g of Eq. 6, one for each layer, initially zero.
    """

    def __init__(self, config: R2Config) -> None:
        super().__init__()
        bias = config.form == "released"  # Eq. 4 has matrices alone
        self.query_projection = nn.Linear(config.hidden, config.hidden, bias=bias)
        self.video_projection = nn.Linear(config.hidden, config.hidden, bias=bias)
        self.gate = nn.Parameter(torch.zeros(config.steps))

    def project_query(self, query: Tensor) -> Tensor:
        """Applies w_q, w_v and the scale of Eq. 4 to query tokens, so that logits are one product with v̂.

        ``(w_q q̂)ᵀ w_v v̂ = (w_vᵀ w_q q̂)ᵀ v̂``: w_v is applied to a few tokens instead of all patches. Its bias adds the
        same number to all patches, which the softmax ignores.

        Args:
            query: q̂, ``[..., C]``.

        Returns:
            ``[..., C]``.
        """
        precision = self.query_projection.weight.dtype
        # Two products in a row would double the rounding of mixed precision, and these are small.
        with torch.autocast(query.device.type, enabled=False):
            projected = self.query_projection(query.to(precision)) * query.shape[-1] ** -0.5
            moved: Tensor = projected @ self.video_projection.weight
            if self.video_projection.bias is not None:
                # The bias keeps its gradient of zero, which optimizers and distributed training expect.
                moved = moved + 0 * self.video_projection.bias
        return moved

    def forward(self, cls: Tensor, pooled: Tensor, layer: int) -> Tensor:
        """Adds pooled patches to [CLS] tokens, both ``[B, T, C]``, through the gate of the layer (Eq. 6)."""
        combined: Tensor = cls + self.gate[layer].tanh() * pooled
        return combined


class TemporalRefinement(nn.Module):
    """Recurrent temporal refinement (Eq. 7 and 8), post-norm.

    Args:
        config: Shape of the model.

    Attributes:
        gate: ``[K-1]``; its sigmoid is φ of Eq. 7, one for each layer except that of the first step. ``[K]`` in the
            paper's form, whose first step has a gate too.
    """

    def __init__(self, config: R2Config) -> None:
        super().__init__()
        hidden = config.hidden
        self.gate = nn.Parameter(torch.zeros(config.steps if config.form == "paper" else config.steps - 1))
        self.cross_attention = CrossAttention(hidden, config.heads)
        self.cross_norm = nn.LayerNorm(hidden)
        self.self_attention = SelfAttention(hidden, config.heads)
        self.self_norm = nn.LayerNorm(hidden)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.ReLU(inplace=True), nn.Linear(4 * hidden, hidden)
        )
        self.feed_forward_norm = nn.LayerNorm(hidden)
        self.drop_path = DropPath(config.drop_path)
        # On the meta device there is nothing to draw, and `kaiming_normal_` would import the compiler, for seconds.
        if config.init == "released" and not self.gate.is_meta:
            self._start_as_released()

    def _start_as_released(self) -> None:
        for attention in (self.cross_attention, self.self_attention):
            for projection in (attention.query, attention.key, attention.value, attention.output):
                nn.init.xavier_uniform_(projection.weight)
                nn.init.zeros_(projection.bias)
        for layer in self.feed_forward:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def fuse(self, pooled: Tensor, hidden: Tensor, index: int) -> Tensor:
        """Mixes pooled frames with the state of the step before (Eq. 7), using the gate at this index."""
        gate = self.gate[index].sigmoid()
        return torch.lerp(hidden, pooled.to(hidden.dtype), gate.to(hidden.dtype))

    def forward(
        self, fused: Tensor, query: tuple[Tensor, Tensor, Tensor], position: Tensor, video_mask: Tensor | None
    ) -> Tensor:
        """Attends to the query, then among frames, then applies the feed-forward network (Eq. 8).

        Args:
            fused: ``[B, T, C]``, from `fuse`.
            query: The layer's q̂ as prepared for the cross-attention.
            position: ``[B or 1, T, C]``, from `position_encoding`.
            video_mask: bool ``[B, T]``; None if no frame is padding.

        Returns:
            The new state h, ``[B, T, C]``.
        """
        x = self.cross_norm(fused + self.drop_path(self.cross_attention(fused + position, *query)))
        located = x + position
        x = self.self_norm(x + self.drop_path(self.self_attention(located, x, video_mask)))
        refined: Tensor = self.feed_forward_norm(x + self.drop_path(self.feed_forward(x)))
        return refined


class R2Block(nn.Module):
    """Refines one state per frame while it walks through the last K layers of CLIP (Eq. 1).

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
        """The layer of each step, as an index among the layers in use (oldest 0)."""
        last = self.config.steps - 1
        return range(last + 1) if self.config.refinement == "forward" else range(last, -1, -1)

    def count_from_last(self, index: int) -> int:
        """The CLIP layer at an index of `order`, counted from the last, which is 1; 0 for the mean of all."""
        return 0 if self.config.refinement == "mean" else self.config.layers - index

    def project_query(self, query: Tensor, query_mask: Tensor | None = None) -> Tensor:
        """Projects query tokens (Eq. 3).

        Args:
            query: ``[B, K, L, Dq]``.
            query_mask: bool ``[B, L]``; None if no token is padding.

        Returns:
            q̂, ``[B, K, L, C]``; K is 1 if the block takes one step only (Fig. 7).
        """
        if query_mask is not None:  # NaN in padding would survive a softmax weight of zero
            query = query.masked_fill(~query_mask[:, None, :, None], 0)
        if self.config.refinement == "mean":
            query = query.mean(dim=1, keepdim=True)
        tokens: Tensor = self.query_map(query[:, : self.config.steps])
        return tokens

    def project_video(self, video: Tensor, video_mask: Tensor) -> Tensor:
        """Projects patches (Eq. 2) without dropout, which does not depend on the query.

        Args:
            video: ``[V, K, T, P+1, Dv]``, in any precision.
            video_mask: bool ``[V, T]``, real frames first.

        Returns:
            v̂ in the precision of the weights, ``[V, K, T, P+1, C]``; K is 1 if the block takes one step only. Padded
            frames are meaningless.
        """
        return self.project_window(self.multiply_frames(video, video_mask), video_mask)

    def multiply_frames(self, video: Tensor, video_mask: Tensor) -> FrameProducts:
        """The part of `project_video` that is the same in every window with these frames."""
        layers = [self._layers(video, layer) for layer in range(self.config.steps)]
        return multiply_frames(self.video_map, layers, video_mask)

    def project_window(self, frames: FrameProducts, video_mask: Tensor) -> Tensor:
        """The rest of `project_video`, for frames that make up whole windows."""
        return project_window(self.video_map, frames, video_mask, self._endpoints(video_mask))

    def project_frames(self, video: Tensor, window: int) -> Tensor:
        """As `project_video`, but every frame is seen as the middle one of a window of so many frames."""
        video_mask = torch.ones(video.shape[0], video.shape[2], dtype=torch.bool, device=video.device)
        middle = torch.tensor([(window - 1) / 2, (window + 1) / 2], device=video.device) / window
        endpoints = middle.expand(*video_mask.shape, 2) if self.config.family == "grounding" else None
        return project_window(self.video_map, self.multiply_frames(video, video_mask), video_mask, endpoints)

    def forward(
        self,
        video: Tensor | Sequence[Tensor | QuantizedTokens],
        tokens: Tensor,
        video_mask: Tensor,
        query_mask: Tensor,
        video_index: Tensor,
        *,
        projected: bool,
    ) -> BlockOutput:
        """Refines the state of every frame, step by step, for B pairs of a query and a video.

        Args:
            video: Result of `project_video`, or features that are projected here, step by step, by the training
                kernel.
            tokens: q̂, ``[B, K, L, C]``.
            video_mask: bool ``[V, T]``, real frames first.
            query_mask: bool ``[B, L]``.
            video_index: int64 ``[B]``, the video of each pair.
            projected: Whether ``video`` is projected already.
        """
        pairs = Pairs.sort(video_index, query_mask, len(video))
        query, packed = pairs.pack(torch.cat([self.spatial_pooling.project_query(tokens), tokens], dim=1)).chunk(2)
        prepared = self.temporal_refinement.cross_attention.prepare(tokens, query_mask)
        # Attention without a mask is faster, and one position encoding serves all videos without padding.
        if video_mask.all():
            frames_seen, position = None, position_encoding(video_mask[:1], self.config.hidden).to(tokens.dtype)
        else:
            frames_seen = video_mask[video_index]
            position = position_encoding(frames_seen, self.config.hidden).to(tokens.dtype)
        cls: dict[int, Tensor] = {}  # [B, T, C] for each layer
        if projected:
            every_cls = torch.stack([of_video[:, :, 0].to(tokens.dtype) for of_video in video])
            cls = dict(enumerate(every_cls[video_index].unbind(dim=1)))
        hidden = tokens.new_empty(0)  # there is no state before the first step
        for step, layer in enumerate(self.order):
            if projected:
                patches = [of_video[layer][:, self.config.first_pooled :] for of_video in video]
                pooled = pool_patches(patches, video_mask, query[layer], packed[layer], pairs)
            else:
                assert isinstance(video, Tensor)
                features, endpoints = self._layers(video, layer), self._endpoints(video_mask)
                found, pooled = project_and_pool(
                    self.video_map,
                    features,
                    video_mask,
                    endpoints,
                    query[layer],
                    packed[layer],
                    pairs,
                    first=self.config.first_pooled,
                )
                cls[layer] = found[video_index]
            fused = self.spatial_pooling(cls[layer], pooled, layer)
            if self.config.form == "paper":  # h⁰ = 0
                before = hidden if step > 0 else torch.zeros_like(fused)
                fused = self.temporal_refinement.fuse(fused, before, layer)
            elif step > 0:
                # The layer of the first step has no gate, so the gates of the others are counted without it.
                gate = layer - 1 if self.config.refinement == "forward" else layer
                fused = self.temporal_refinement.fuse(fused, hidden, gate)
            into, bias, out = (x[:, layer] for x in prepared)
            hidden = self.temporal_refinement(fused, (into, bias, out), position, frames_seen)
        return BlockOutput(hidden, torch.stack([cls[layer] for layer in range(len(cls))], dim=1))

    def _layers(self, video: Tensor, layer: int) -> Tensor:
        """The layers ``[V, J, ...]`` of ``[V, K, ...]`` whose mean is used for this one (Fig. 7)."""
        return video if self.config.refinement == "mean" else video[:, layer : layer + 1]

    def _endpoints(self, video_mask: Tensor) -> Tensor | None:
        return temporal_endpoints(video_mask) if self.config.family == "grounding" else None
