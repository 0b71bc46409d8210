"""Asking without repetition: a video is projected once, and all queries look at it together.

The same numbers as `R2Block`, which is the definition. All that comes before the query is `project_patches`. Then one
product gives the logits of all queries' tokens, a few frames at a time, so that these stay in the processor's cache;
w_v has moved to the side of the query (`SpatialPooling.ask`).
"""

from __future__ import annotations

from torch import Tensor

from r2tuning.model.block import BlockOutput, R2Block
from r2tuning.model.fused import plan_parts, read_part
from r2tuning.model.layers import temporal_endpoints


def project_patches(block: R2Block, video: Tensor, video_mask: Tensor) -> Tensor:
    """`R2Block.project_video` without large copies.

    Args:
        block: In evaluation mode.
        video: ``[V, K, T, P+1, Dv]``, any precision.
        video_mask: bool ``[V, T]``, real frames first.

    Returns:
        v̂ in the precision of the weights, ``[V, K, T, P+1, C]``; K is 1 where the block takes one step only. Padded
        frames mean nothing.
    """
    config, precision = block.config, block.spatial_pooling.gate.dtype
    videos, _, frames, tokens, _ = video.shape
    ends = temporal_endpoints(video_mask) if config.family == "grounding" else None
    parts = plan_parts(video_mask, tokens, config.video_input_width)
    projected = video.new_zeros(videos, config.steps, frames, tokens, config.hidden, dtype=precision)
    for layer in range(config.steps):
        chosen = block.choose(video, layer)
        for part in parts:
            projected[part.videos, layer, part.frames] = block.video_map(read_part(chosen, ends, part, precision))
    return projected


def ask_videos(block: R2Block, projected: Tensor, query: Tensor, video_mask: Tensor, query_mask: Tensor) -> BlockOutput:
    """Asks every video every query.

    Args:
        block: In evaluation mode.
        projected: v̂, ``[V, K, T, P+1, C]``.
        query: ``[Q, K, L, Dq]``.
        video_mask: bool ``[V, T]``.
        query_mask: bool ``[Q, L]``.

    Returns:
        What `R2Block.forward` says of V·Q pairs; all queries of the first video come first.
    """
    tokens = block.query_map(block.select(query))
    videos, queries, length = len(projected), *query_mask.shape
    pooling = block.spatial_pooling
    parts = plan_parts(video_mask, *projected.shape[3:])

    def pool(layer: int) -> Tensor:
        asked = pooling.ask(tokens[:, layer]).flatten(0, 1)  # [Q·L, C]
        pooled = projected.new_zeros(videos, queries, *projected.shape[2::2])
        for part in parts:
            v = projected[part.videos, layer, part.frames]  # [v, t, P+1, C]
            count, frames, patches, hidden = v.shape
            logits = asked @ v.view(count, frames * patches, hidden).transpose(1, 2)
            attention = logits.view(count, len(asked), frames, patches).softmax(dim=-1)
            seen = (attention.transpose(1, 2) @ v).view(count, frames, queries, length, hidden)
            combined = pooling.combine(
                v[:, :, 0].repeat_interleave(queries, dim=0),
                seen.transpose(1, 2).flatten(0, 1),
                tokens[:, layer].repeat(count, 1, 1),
                query_mask.repeat(count, 1),
                layer,
            )
            pooled[part.videos, :, part.frames] = combined.view(count, queries, frames, hidden)
        return pooled.flatten(0, 1)

    pairs = tokens.repeat(videos, 1, 1, 1)
    hidden, last = block.walk(pool, pairs, video_mask.repeat_interleave(queries, dim=0), query_mask.repeat(videos, 1))
    video_cls = projected[..., 0, :].repeat_interleave(queries, dim=0)
    return BlockOutput(hidden, pairs, video_cls, last)
