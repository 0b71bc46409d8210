"""R²-Tuning as one module: features of a frozen CLIP for videos and queries in, predictions at every point out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r2tuning.model.block import R2Block
from r2tuning.model.config import R2Config
from r2tuning.model.heads import (
    ConvHead,
    PresenceHead,
    Pyramid,
    QueryPooling,
    drop_gaps,
    join_levels,
    level_mask,
    level_points,
)
from r2tuning.model.pooling import QuantizedTokens, attend
from r2tuning.model.projection import FrameProducts, WindowProjector
from r2tuning.types import ModelOutput


class R2Tuning(nn.Module):
    """The trainable part of R²-Tuning (Fig. 4): R² Block, pyramid and heads on features of a frozen CLIP.

    The steps are project → pool → refine → predict. Only the first does not depend on the query, so `project` and
    `predict` are also available separately: project a video once, then ground many queries in it. Predictions of a
    sample do not depend on padding or on the other samples of its batch.

    Args:
        config: Shape of the model.

    Example:
        >>> model = R2Tuning(R2Config(video_width=8, query_width=6, layers=2, hidden=16, heads=2)).eval()
        >>> video, query = torch.zeros(1, 2, 5, 4, 8), torch.zeros(1, 2, 3, 6)  # [V, K, T, P+1, Dv], [B, K, L, Dq]
        >>> model(video, query).class_logits.shape  # 5 points of stride 1, 2 of stride 2, 1 of stride 4
        torch.Size([1, 8])
        >>> projected = model.project(video)
        >>> model.predict(projected, torch.zeros(3, 2, 7, 6)).class_logits.shape  # three queries
        torch.Size([3, 8])
    """

    def __init__(self, config: R2Config) -> None:
        super().__init__()
        self.config = config
        self.block = R2Block(config)
        self.pyramid = Pyramid(config.hidden, config.strides)
        self.query_pooling = QueryPooling(config.hidden)
        self.class_head = ConvHead(config.hidden, 1)
        self.offset_head = ConvHead(config.hidden, 2) if config.family == "grounding" else None
        self.presence_head = PresenceHead(config.hidden) if config.presence else None
        # One factor for the offsets of each level. Saliency checkpoints contain it too, but do not use it.
        self.level_scale = nn.Parameter(torch.ones(len(config.strides)))

    def forward(
        self,
        video_features: Tensor,
        query_features: Tensor,
        video_mask: Tensor | None = None,
        query_mask: Tensor | None = None,
        video_index: Tensor | None = None,
    ) -> ModelOutput:
        """Predicts for a batch of B queries on V videos.

        In training mode, or if gradients are needed, patches are projected and pooled by `r2tuning.model.kernels`,
        which gives the same numbers (dropout rates are rounded to 1/256) in less time and memory.

        Args:
            video_features: Image-tower tokens of the last K CLIP layers, oldest first, ``[V, K, T, P+1, Dv]``, in any
                precision.
            query_features: Text-tower tokens, ``[B, K, L, Dq]``.
            video_mask: bool ``[V, T]``, True for real frames, which come first; None if all are real.
            query_mask: bool ``[B, L]``, True for real tokens; None if all are real.
            video_index: int64 ``[B]``, the video of each query, if queries share videos; None for one query per video
                in the same order.

        Returns:
            Predictions at every point of every level, for each query.

        Raises:
            ValueError: If a shape does not fit the configuration or the other inputs.
        """
        self._check(video_features, query_features, video_mask, query_mask, video_index)
        if video_mask is None:
            video_mask = _all_real(video_features[:, 0])
        if query_mask is None:
            query_mask = _all_real(query_features[:, 0])
        if video_index is None:
            video_index = torch.arange(len(query_features), device=query_features.device)
        tokens = self.block.project_query(query_features, query_mask)
        differentiated = any(x.requires_grad for x in (video_features, tokens, *self.parameters()))
        if self.training or (torch.is_grad_enabled() and differentiated):
            return self._predict_pairs(video_features, tokens, video_mask, query_mask, video_index, projected=False)
        projected = self.project(video_features, video_mask)
        return self._predict_pairs(projected, tokens, video_mask, query_mask, video_index)

    def project(self, video_features: Tensor, video_mask: Tensor | None = None) -> Tensor:
        """Projects patches (Eq. 2) without dropout: all work on a video that does not depend on the query.

        Args:
            video_features: ``[V, K, T, P+1, Dv]``, in any precision.
            video_mask: bool ``[V, T]``; None if all frames are real.

        Returns:
            v̂, ``[V, K, T, P+1, C]``, for `predict`; K is 1 for the refinements ``mean`` and ``single``.
        """
        return self.block.project_video(
            video_features, _all_real(video_features[:, 0]) if video_mask is None else video_mask
        )

    def project_frames(self, video_features: Tensor, window: int) -> Tensor:
        """Projects patches as `project`, for any window that a frame may be in later.

        The feature map sees where a frame lies in its window. Here each lies in the middle, which changes v̂ by a cosine
        of about 1e-6, so that windows of a long video need not be known when it is stored.

        Args:
            video_features: ``[V, K, T, P+1, Dv]``, in any precision, without padding.
            window: Frames of a window.

        Returns:
            v̂, ``[V, K, T, P+1, C]``; any frames that follow each other may go to `predict`.
        """
        return self.block.project_frames(video_features, window)

    def project_windows(self, read: Callable[[int, int], Tensor]) -> WindowProjector:
        """Projects windows of a video one after the other, without doing twice what neighbors share.

        Args:
            read: Reads the features of frames ``start`` to ``stop``, ``[K, t, P+1, Dv]``.

        Returns:
            A projector, whose ``project(start, stop)`` is `project` of ``read(start, stop)``, ``[K, T, P+1, C]``.
        """

        def multiply(start: int, stop: int) -> FrameProducts:
            video = read(start, stop)[None]
            return self.block.multiply_frames(video, _all_real(video[:, 0]))

        def finish(frames: FrameProducts) -> Tensor:
            return self.block.project_window(frames, _all_real(frames.values[:, 0]))[0]

        return WindowProjector(multiply, finish)

    def predict(
        self,
        projected: Tensor | Sequence[Tensor | QuantizedTokens],
        query_features: Tensor,
        video_mask: Tensor | None = None,
        query_mask: Tensor | None = None,
    ) -> ModelOutput:
        """Predicts for every query on every projected video.

        Args:
            projected: v̂ from `project`, ``[V, K, T, P+1, C]`` or V times ``[K, T, P+1, C]``, in any precision or
                quantized; fp16 halves the memory and moves moments by up to a tenth of a second.
            query_features: ``[Q, K, L, Dq]``.
            video_mask: bool ``[V, T]``, real frames first; None if all are real.
            query_mask: bool ``[Q, L]``; None if all tokens are real.

        Returns:
            Predictions for V·Q pairs: all queries on the first video, then all on the second, and so on.
        """
        videos, queries = len(projected), len(query_features)
        if video_mask is None:
            video_mask = _all_real(projected[0][:1]).expand(videos, -1)
        if query_mask is None:
            query_mask = _all_real(query_features[:, 0])
        tokens = self.block.project_query(query_features, query_mask).repeat(videos, 1, 1, 1)
        video_index = torch.arange(videos, device=tokens.device).repeat_interleave(queries)
        return self._predict_pairs(projected, tokens, video_mask, query_mask.repeat(videos, 1), video_index)

    @torch.inference_mode()
    def attend(self, video_features: Tensor, query_features: Tensor) -> Tensor:
        """Computes the attention of every query token to every patch (Eq. 4), in each layer.

        Args:
            video_features: Features of one video, or a window of it, ``[K, T, P+1, Dv]``, in any precision.
            query_features: ``[K, L, Dq]``.

        Returns:
            ``[K, T, L, P+1]``, oldest layer and [CLS] first; sums to 1 over the patches. In the paper's form [CLS] has
            0. K is 1 for the refinements ``mean`` and ``single``.
        """
        first = self.config.first_pooled
        (tokens,) = self.block.project_query(query_features[None])
        query = self.block.spatial_pooling.project_query(tokens)
        patches = self.project(video_features[None])[0, :, :, first:]
        return F.pad(attend(patches, query).transpose(1, 2), (first, 0))

    def _predict_pairs(
        self,
        video: Tensor | Sequence[Tensor | QuantizedTokens],
        tokens: Tensor,
        video_mask: Tensor,
        query_mask: Tensor,
        video_index: Tensor,
        *,
        projected: bool = True,
    ) -> ModelOutput:
        refined = self.block(video, tokens, video_mask, query_mask, video_index, projected=projected)
        hidden = F.relu(refined.hidden) if self.config.form == "released" else refined.hidden
        video_mask = video_mask[video_index]
        levels = self.pyramid(hidden)
        masks = [level_mask(video_mask, stride) for stride in self.config.strides[: len(levels)]]
        windows, real = join_levels(levels, masks)
        offsets = None
        if self.offset_head is not None:
            sizes = torch.tensor([level.shape[1] for level in levels], device=hidden.device)
            scale = self.level_scale[: len(levels)].repeat_interleave(sizes)
            offsets = drop_gaps(self.offset_head(windows, real), levels).exp() * scale[:, None]
        pooled = self.query_pooling(tokens, query_mask[:, None])
        query = pooled[:, self.block.order[-1]]
        return ModelOutput(
            hidden=hidden,
            query=query,
            class_logits=drop_gaps(self.class_head(windows, real), levels).squeeze(-1),
            offsets=offsets,
            # Ranges are those of the whole pyramid, even if a short video has no room for the upper levels.
            points=level_points(hidden.shape[1], self.config.strides, hidden.device),
            point_mask=torch.cat(masks, dim=1),
            video_mask=video_mask,
            video_cls=refined.video_cls,
            query_pooled=pooled,
            form=self.config.form,
            presence=None if self.presence_head is None else self.presence_head(hidden, query, video_mask),
        )

    def _check(
        self,
        video: Tensor,
        query: Tensor,
        video_mask: Tensor | None,
        query_mask: Tensor | None,
        video_index: Tensor | None,
    ) -> None:
        config = self.config
        if video.dim() != 5 or video.shape[1] != config.layers or video.shape[4] != config.video_width:
            expected = f"[B, {config.layers}, T, P+1, {config.video_width}]"
            raise ValueError(f"video_features have shape {list(video.shape)}; this model takes {expected}")
        if query.dim() != 4 or query.shape[1] != config.layers or query.shape[3] != config.query_width:
            expected = f"[B, {config.layers}, L, {config.query_width}]"
            raise ValueError(f"query_features have shape {list(query.shape)}; this model takes {expected}")
        if video_index is not None and video_index.shape != query.shape[:1]:
            raise ValueError(f"video_index has shape {list(video_index.shape)}; it must be {list(query.shape[:1])}")
        if video_index is None and video.shape[0] != query.shape[0]:
            raise ValueError(f"{video.shape[0]} videos but {query.shape[0]} queries; give one query for each video")
        for name, mask, lengths in (("video", video_mask, video), ("query", query_mask, query)):
            if mask is not None and mask.shape != lengths.shape[:3:2]:
                raise ValueError(f"{name}_mask has shape {list(mask.shape)}; it must be {list(lengths.shape[:3:2])}")
            if mask is not None and mask.dtype != torch.bool:
                raise ValueError(f"{name}_mask is {mask.dtype}; it must be torch.bool, True = real")


def _all_real(features: Tensor | QuantizedTokens) -> Tensor:
    """A mask without padding for ``[B, T, ...]``."""
    return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
