"""Projecting a video once for all queries, without large copies."""

from torch import Tensor

from r2tuning.model.block import R2Block
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
