"""Where the words of a query look in the frames of a video, with the times and layers that a picture of it needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from r2tuning.decoding.windows import plan_windows
from r2tuning.features import EncodedVideo
from r2tuning.grounder import Grounder
from r2tuning.types import PatchAttention

END = "[end]"
"""Stands for a sentence's end token among its words."""


@torch.inference_mode()
def find_attention(grounder: Grounder, video: EncodedVideo, query: str, times: Sequence[float]) -> PatchAttention:
    """Finds where the words of a query make a model look in the frames at some times, each frame once and in order.

    Times, at least one, are seconds on the player's clock. In a video of several windows, the attention to a frame is
    that of the window whose middle is nearest.
    """
    (features,) = grounder.backbone.encode_queries([query])
    grounder.check_features(video, [features])
    facts, model, device = video.facts, grounder.model, grounder.backbone.device
    frames = sorted({min(max(int((time - facts.start) * facts.fps), 0), video.frames - 1) for time in times})
    windows = plan_windows(video.frames, max(1, round(grounder.config.window * facts.fps)))
    seen_by = [min(windows, key=lambda w: abs(w.start + w.stop - 1 - 2 * frame)) for frame in frames]
    pieces = []
    for window in dict.fromkeys(seen_by):
        # Where a frame lies in its window matters, so the model sees the whole window.
        features_seen = video.read(window.start, window.stop).to(device)
        chosen = [frame - window.start for frame, seen in zip(frames, seen_by, strict=True) if seen is window]
        pieces.append(model.attend(features_seen, features.values.to(device))[:, chosen])
    tokens = torch.cat(pieces, dim=1)[list(model.block.order)]
    words = [*grounder.backbone.split_words(query), (END, slice(-1, None))]
    return PatchAttention(
        query=query,
        words=tuple(word for word, _ in words),
        times=facts.start + np.minimum((np.array(frames) + 0.5) / facts.fps, facts.duration),
        layers=tuple(model.block.count_from_last(index) for index in model.block.order),
        weights=torch.stack([tokens[:, :, place].mean(dim=2) for _, place in words], dim=2).cpu().numpy(),
    )
