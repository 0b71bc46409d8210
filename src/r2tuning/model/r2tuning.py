"""R²-Tuning put together: frozen CLIP features of a video and a query in, predictions at every point out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r2tuning.model.block import BlockOutput, R2Block
from r2tuning.model.config import R2Config
from r2tuning.model.fused import run_fused
from r2tuning.model.heads import ConvHead, QueryPooling, join_levels
from r2tuning.model.projecting import project_patches
from r2tuning.model.pyramid import Pyramid, level_mask, level_points
from r2tuning.types import ModelOutput


class R2Tuning(nn.Module):
    """The trainable part of R²-Tuning (Fig. 4): R² Block, pyramid and heads on features of a frozen CLIP.

    Results of a sample do not depend on padding or on the other samples of its batch.

    Args:
        config: Shape of the model.

    Attributes:
        fused: Whether `forward` takes the fast way of `r2tuning.model.fused`, which training needs: the same numbers
            (and, where dropout is on, the same distribution) in a fraction of the time and memory.

    Example:
        >>> model = R2Tuning(R2Config(video_width=8, query_width=6, layers=2, hidden=16, heads=2)).eval()
        >>> video, query = torch.zeros(1, 2, 5, 4, 8), torch.zeros(1, 2, 3, 6)  # [B, K, T, P+1, Dv], [B, K, L, Dq]
        >>> model(video, query).class_logits.shape  # 5 points of stride 1, 2 of stride 2, 1 of stride 4
        torch.Size([1, 8])
    """

    def __init__(self, config: R2Config) -> None:
        super().__init__()
        self.config = config
        self.fused = False
        self.block = R2Block(config)
        self.pyramid = Pyramid(config.hidden, config.strides)
        self.query_pooling = QueryPooling(config.hidden)
        self.class_head = ConvHead(config.hidden, 1)
        self.offset_head = ConvHead(config.hidden, 2) if config.family == "grounding" else None
        # One factor for the offsets of each level. Saliency checkpoints hold it too, though nothing reads it there.
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

        Args:
            video_features: Image-tower tokens of the last K CLIP layers, oldest first, ``[V, K, T, P+1, Dv]``, in any
                precision.
            query_features: Text-tower tokens, ``[B, K, L, Dq]``.
            video_mask: bool ``[V, T]``, True for real frames, which come first; None if all are real.
            query_mask: bool ``[B, L]``, likewise.
            video_index: int64 ``[B]``, the video that each query asks, so that several can share the work on one video;
                None if there is one query for each video, in the same order.

        Returns:
            Predictions at every point of every level, for each query.

        Raises:
            ValueError: If a shape does not fit the configuration or the other input.
        """
        self._check(video_features, query_features, video_mask, query_mask, video_index)
        if video_mask is None:
            video_mask = torch.ones(
                video_features.shape[0], video_features.shape[2], dtype=torch.bool, device=video_features.device
            )
        if query_mask is None:
            query_mask = torch.ones(
                query_features.shape[0], query_features.shape[2], dtype=torch.bool, device=query_features.device
            )
        if self.fused:
            refined, video_mask = run_fused(
                self.block, video_features, query_features, video_mask, query_mask, video_index
            )
            return self._predict(refined, video_mask, query_mask)
        projected = self.block.project_video(video_features.to(self.level_scale.dtype), video_mask)
        if video_index is not None:
            projected, video_mask = projected[video_index], video_mask[video_index]
        return self.answer(projected, query_features, video_mask, query_mask)

    def answer(self, projected: Tensor, query: Tensor, video_mask: Tensor, query_mask: Tensor) -> ModelOutput:
        """Predicts from patches that were projected before, so that many queries share that work.

        Args:
            projected: v̂ of `R2Block.project_video`, ``[B or 1, K, T, P+1, C]``; 1 shares one video among B queries.
            query: ``[B, K, L, Dq]``.
            video_mask: bool ``[B or 1, T]``.
            query_mask: bool ``[B, L]``.

        Returns:
            Predictions at every point of every level.
        """
        video_mask = video_mask.expand(query.shape[0], -1)
        return self._predict(self.block(projected, query, video_mask, query_mask), video_mask, query_mask)

    def project(self, video_features: Tensor, video_mask: Tensor | None = None) -> Tensor:
        """All work on videos that does not depend on the query, for `r2tuning.model.asking.Asker`.

        Args:
            video_features: ``[V, K, T, P+1, Dv]``, any precision.
            video_mask: bool ``[V, T]``; None if all frames are real.

        Returns:
            v̂, ``[V, K, T, P+1, C]``.
        """
        if video_mask is None:
            video_mask = torch.ones(
                video_features.shape[0], video_features.shape[2], dtype=torch.bool, device=video_features.device
            )
        return project_patches(self.block, video_features, video_mask)

    def _predict(self, refined: BlockOutput, video_mask: Tensor, query_mask: Tensor) -> ModelOutput:
        hidden = F.relu(refined.hidden)
        levels = self.pyramid(hidden)
        strides = self.config.strides[: len(levels)]
        masks = [level_mask(video_mask, stride) for stride in strides]
        entries, mask, places = join_levels(levels, masks)
        offsets = None
        if self.offset_head is not None:
            lengths = torch.tensor([level.shape[1] for level in levels], device=hidden.device)
            scale = self.level_scale[: len(levels)].repeat_interleave(lengths)
            offsets = self.offset_head(entries, mask)[:, places].exp() * scale[:, None]
        pooled = self.query_pooling(refined.query, query_mask[:, None])
        return ModelOutput(
            hidden=hidden,
            query=pooled[:, refined.last],
            class_logits=self.class_head(entries, mask)[:, places, 0],
            offsets=offsets,
            # Ranges are those of the whole pyramid, also where a short video has no room for its upper levels.
            points=level_points(hidden.shape[1], self.config.strides, hidden.device),
            point_mask=torch.cat(masks, dim=1),
            video_mask=video_mask,
            video_cls=refined.video_cls,
            query_pooled=pooled,
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
