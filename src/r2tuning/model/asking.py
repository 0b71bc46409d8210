"""Asking without repetition: a video is projected once, and all queries look at it together.

The same numbers as `R2Tuning`, which is the definition. One product gives the logits of all queries' tokens, a few
frames at a time, so that these stay in the processor's cache; w_v has moved to the side of the query
(`SpatialPooling.ask`). What follows has its weights merged (`r2tuning.model.folded`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from r2tuning.model.folded import FoldedPredictor, FoldedRefinement, PointPlan, Timeline
from r2tuning.model.fused import plan_parts
from r2tuning.model.r2tuning import R2Tuning
from r2tuning.types import ModelOutput


class Asker:
    """A model made ready to be asked.

    Args:
        model: In evaluation mode; its weights must stay as they are.

    Example:
        >>> from r2tuning.model import R2Config
        >>> model = R2Tuning(R2Config(video_width=8, query_width=6, layers=2, hidden=16, heads=2)).eval()
        >>> projected = model.project(torch.zeros(1, 2, 5, 4, 8))  # one video, [V, K, T, P+1, Dv]
        >>> Asker(model).ask(projected, torch.zeros(3, 2, 7, 6)).class_logits.shape  # three queries, [Q, K, L, Dq]
        torch.Size([3, 8])
    """

    @torch.no_grad()
    def __init__(self, model: R2Tuning) -> None:
        self._model = model
        self._refinement = FoldedRefinement(model.block.temporal_refinement)
        heads = [head for head in (model.class_head, model.offset_head) if head is not None]
        self._predictor = FoldedPredictor(model.pyramid, heads, model.level_scale)
        self._gates: list[float] = model.block.spatial_pooling.gate.tanh().tolist()
        self._plans: dict[tuple[int, int, torch.device], tuple[Timeline, PointPlan]] = {}

    @torch.no_grad()
    def ask(
        self,
        projected: Tensor | Sequence[Tensor],
        query: Tensor,
        video_mask: Tensor | None = None,
        query_mask: Tensor | None = None,
    ) -> ModelOutput:
        """Asks every projected video every query.

        Args:
            projected: v̂ of `R2Tuning.project`, ``[V, K, T, P+1, C]``, or as many ``[K, T, P+1, C]``; in any precision:
                fp16 takes half the memory and no longer.
            query: ``[Q, K, L, Dq]``.
            video_mask: bool ``[V, T]``, real frames first; None if all are real.
            query_mask: bool ``[Q, L]``, likewise.

        Returns:
            What `R2Tuning.forward` says of V·Q pairs; all queries of the first video come first.
        """
        block, config = self._model.block, self._model.config
        tokens = block.query_map(block.select(query))  # [Q, K, L, C]
        videos, queries, frames = len(projected), len(tokens), projected[0].shape[1]
        looking = queries * tokens.shape[2]
        if query_mask is None:
            query_mask = torch.ones(queries, tokens.shape[2], dtype=torch.bool, device=query.device)
        timeline, points = self._lay_out(videos, frames, video_mask, query.device)
        asked = block.spatial_pooling.ask(tokens)
        real = tokens.masked_fill(~query_mask[:, None, :, None], -torch.inf)
        crossing = self._refinement.cross(tokens, query_mask)
        patches, width = projected[0].shape[2:]
        parts = [
            (video, part.frames)
            for video in range(videos)
            for part in plan_parts(timeline.video_mask[video : video + 1], patches + looking, width)
        ]
        place = tokens.new_empty(max((span.stop - span.start for _, span in parts), default=0), patches, width)
        cls = torch.stack([patches[..., 0, :] for patches in projected]).to(tokens.dtype)  # [V, K, T, C]
        state = tokens.new_empty(0)  # there is no state before the first step
        for step, layer in enumerate(block.order):
            best = self._pool(projected, asked[:, layer], real[:, layer], timeline.video_mask, layer, parts, place)
            pooled = cls[:, layer, :, None].add(best, alpha=self._gates[layer]).flatten(0, 1).transpose(0, 1)
            # The layer with which the walk begins has no gate, so those of the others are counted without it.
            gate = layer - 1 if config.refinement == "forward" else layer
            fused = pooled if step == 0 else self._refinement.fuse(pooled, state, gate)
            state = self._refinement.refine(fused, crossing, layer, timeline)
        # [Q, V·T, C] → [V·Q, T, C]
        hidden = state.relu_().view(queries, videos, frames, -1).transpose(0, 1).flatten(0, 1)
        logits, offsets = self._predictor.predict(hidden, points)
        pooled_query = self._model.query_pooling(tokens, query_mask[:, None]).repeat(videos, 1, 1)
        return ModelOutput(
            hidden=hidden,
            query=pooled_query[:, block.order[-1]],
            class_logits=logits,
            offsets=offsets,
            points=points.points,
            point_mask=points.mask.repeat_interleave(queries, dim=0),
            video_mask=timeline.video_mask.repeat_interleave(queries, dim=0),
            video_cls=cls[:, None].expand(-1, queries, -1, -1, -1).flatten(0, 1),
            query_pooled=pooled_query,
        )

    def _lay_out(
        self, videos: int, frames: int, video_mask: Tensor | None, device: torch.device
    ) -> tuple[Timeline, PointPlan]:
        """Those of whole videos are kept until others are asked, as the windows of a video are alike."""
        if video_mask is not None and not video_mask.all():
            return self._refinement.plan(video_mask), self._predictor.plan(video_mask)
        key = (videos, frames, device)
        kept = self._plans.get(key)
        if kept is None:
            whole = torch.ones(videos, frames, dtype=torch.bool, device=device)
            kept = self._refinement.plan(whole), self._predictor.plan(whole)
            self._plans = {key: kept}
        return kept

    def _pool(
        self,
        projected: Tensor | Sequence[Tensor],
        asked: Tensor,
        real: Tensor,
        video_mask: Tensor,
        layer: int,
        parts: Sequence[tuple[int, slice]],
        place: Tensor,
    ) -> Tensor:
        """Patches of all frames of all videos as the queries see them (Eq. 4 and 5).

        Args:
            projected: As for `ask`.
            asked: Query tokens after `SpatialPooling.ask`, ``[Q, L, C]``.
            real: q̂, minus infinity where it is padding, ``[Q, L, C]``.
            video_mask: bool ``[V, T]``.
            layer: Index of the layer.
            parts: What to work on at once: a video, and frames of it.
            place: For their patches in full precision, ``[t, P+1, C]``: always the same, which stays in the cache.

        Returns:
            What e_pool adds to [CLS] when its gate is open, ``[V, T, Q, C]``.
        """
        queries, length, width = asked.shape
        patches = place.shape[1]
        best = asked.new_zeros(*video_mask.shape, queries, width)
        looking, added = asked.flatten(0, 1), real.flatten(0, 1)  # [Q·L, C]
        for video, span in parts:
            v_hat = projected[video][layer, span]
            v = place[: len(v_hat)].copy_(v_hat) if v_hat.dtype != asked.dtype else v_hat  # [t, P+1, C]
            logits = (looking @ v.flatten(0, 1).t()).view(len(looking), -1, patches)
            attention = logits.softmax(dim=-1).transpose(0, 1)  # [t, Q·L, P+1]
            seen = torch.bmm(attention, v).add_(added)
            torch.amax(seen.view(-1, queries, length, width), dim=2, out=best[video, span])
        return best
