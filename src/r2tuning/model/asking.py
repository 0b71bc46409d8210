"""Asking without repetition: a video is projected once, and all queries look at it together.

The same numbers as `R2Tuning`, which is the definition. One product gives the logits of all queries' tokens, a few
frames at a time, so that these stay in the processor's cache; w_v has moved to the side of the query
(`SpatialPooling.ask`). What follows has its weights merged (`r2tuning.model.folded`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from r2tuning.model.folded import FoldedPredictor, FoldedRefinement, PointPlan, Timeline
from r2tuning.model.fused import plan_parts
from r2tuning.model.r2tuning import R2Tuning
from r2tuning.types import ModelOutput

THIN = 8
"""Rows of a matrix that is multiplied with a wide one on a CPU: for more, the wide one is packed anew beforehand."""
THICK = 24
"""Rows for which packing the wide one takes no longer than going through it several times."""


@dataclass(frozen=True)
class Place:
    """Memory in which t frames are pooled. It is the same for all frames, so that it stays in the processor's cache.

    Attributes:
        v: Their patches in full precision, ``[t, P+1, C]``.
        logits: Of tokens and patches, ``[Q·L, t, P+1]``.
        pieces: The same, a few tokens each, ``[l, t·(P+1)]``.
        attention: ``[Q·L, t, P+1]``.
        by_frame: The same, ``[t, Q·L, P+1]``.
        seen: What the tokens see, ``[t, Q·L, C]``.
        by_query: The same, ``[t, Q, L, C]``.
    """

    v: Tensor
    logits: Tensor
    pieces: tuple[Tensor, ...]
    attention: Tensor
    by_frame: Tensor
    seen: Tensor
    by_query: Tensor


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
        if query_mask is None:
            query_mask = torch.ones(queries, tokens.shape[2], dtype=torch.bool, device=query.device)
        timeline, points = self._lay_out(videos, frames, video_mask, query.device)
        asked = block.spatial_pooling.ask(tokens)
        real = tokens.masked_fill(~query_mask[:, None, :, None], -torch.inf)
        crossing = self._refinement.cross(tokens, query_mask)
        patches, width = projected[0].shape[2:]
        together = 2 * (patches + queries * tokens.shape[2])  # half as many frames, since each is read several times
        sizes = [
            [part.frames.stop - part.frames.start for part in plan_parts(mask[None], together, width)]
            for mask in timeline.video_mask
        ]
        places = _make_places({size for parts in sizes for size in parts}, patches, tokens)
        cls = torch.stack([patches[..., 0, :] for patches in projected]).to(tokens.dtype)  # [V, K, T, C]
        state = tokens.new_empty(0)  # there is no state before the first step
        for step, layer in enumerate(block.order):
            best = self._pool(projected, asked[:, layer], real[:, layer], layer, sizes, places)
            pooled = torch.add(cls[:, layer, :, None], best, alpha=self._gates[layer], out=best)
            pooled = pooled.flatten(0, 1).transpose(0, 1)
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
        layer: int,
        sizes: Sequence[Sequence[int]],
        places: Mapping[int, Place],
    ) -> Tensor:
        """Patches of all frames of all videos as the queries see them (Eq. 4 and 5).

        Args:
            projected: As for `ask`.
            asked: Query tokens after `SpatialPooling.ask`, ``[Q, L, C]``.
            real: q̂, minus infinity where it is padding, ``[Q, L, C]``.
            layer: Index of the layer.
            sizes: Of each video, how many frames to work on at once, one number after the other up to the padding.
            places: Where to work on so many.

        Returns:
            What e_pool adds to [CLS] when its gate is open, ``[V, T, Q, C]``.
        """
        best = asked.new_zeros(len(projected), projected[0].shape[1], asked.shape[0], asked.shape[2])
        looking, added = asked.flatten(0, 1), real.flatten(0, 1)  # [Q·L, C]
        pieces = looking.tensor_split(_count_pieces(looking.shape[0], looking.device))
        for video, out, parts in zip(projected, best, sizes, strict=True):
            frames = sum(parts)
            for v_hat, found in zip(video[layer, :frames].split(parts), out[:frames].split(parts), strict=True):
                place = places[len(v_hat)]
                v = place.v.copy_(v_hat) if v_hat.dtype != asked.dtype else v_hat  # [t, P+1, C]
                wide = v.flatten(0, 1).t()
                for piece, logits in zip(pieces, place.pieces, strict=True):
                    torch.mm(piece, wide, out=logits)
                torch.softmax(place.logits, dim=-1, out=place.attention)
                torch.bmm(place.by_frame, v, out=place.seen).add_(added)
                torch.amax(place.by_query, dim=2, out=found)
        return best


def _make_places(sizes: Collection[int], patches: int, tokens: Tensor) -> dict[int, Place]:
    """For each of these numbers of frames of P + 1 patches, asked by q̂ ``[Q, K, L, C]``; they share their memory."""
    queries, _, length, width = tokens.shape
    looking, most = queries * length, max(sizes, default=0)
    v, seen = tokens.new_empty(most, patches, width), tokens.new_empty(most, looking, width)
    scores = tokens.new_empty(2, looking * most * patches)
    places = {}
    for size in sizes:
        logits, attention = scores[:, : looking * size * patches].view(2, looking, size, patches)
        places[size] = Place(
            v=v[:size],
            logits=logits,
            pieces=logits.flatten(1).tensor_split(_count_pieces(looking, tokens.device)),
            attention=attention,
            by_frame=attention.transpose(0, 1),
            seen=seen[:size],
            by_query=seen[:size].view(size, queries, length, width),
        )
    return places


def _count_pieces(rows: int, device: torch.device) -> int:
    """How many products to make of one with so many rows."""
    return -(-rows // THIN) if device.type == "cpu" and rows < THICK else 1
