"""Where the words of a query look: the attention of the spatial pooling, which a prediction keeps to itself."""

import torch
from torch import Tensor

from r2tuning.model.r2tuning import R2Tuning


@torch.inference_mode()
def pool_attention(model: R2Tuning, video: Tensor, query: Tensor) -> Tensor:
    """Attention of every query token to every patch (Eq. 4), in each step of the refinement.

    Args:
        model: In evaluation mode.
        video: Image-tower tokens of a whole video, or a window of it, ``[K, T, P+1, Dv]``, in any precision.
        query: Text-tower tokens, ``[K, L, Dq]``.

    Returns:
        ``[K, T, L, P+1]``, oldest layer and [CLS] first; 1 in total for each layer, frame and token. K is 1 where the
        model takes one step only.
    """
    block = model.block
    mask = torch.ones(1, video.shape[1], dtype=torch.bool, device=video.device)
    projected = block.project_video(video[None].to(model.level_scale.dtype), mask)
    tokens = block.query_map(block.select(query[None]))
    pooling = block.spatial_pooling
    return torch.stack([pooling.attend(projected[:, k], tokens[:, k])[0] for k in range(block.config.steps)])
