"""Runs the model on windows of projected videos."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from r2tuning.decoding import Decoded, decode
from r2tuning.model import R2Tuning
from r2tuning.model.pooling import QuantizedTokens
from r2tuning.types import QueryFeatures

PAIRS = 16
"""Pairs of a window and a query in one batch of the model."""


def predict_windows(
    model: R2Tuning, projected: Sequence[Tensor | QuantizedTokens], queries: Sequence[QueryFeatures], fps: float
) -> list[Decoded]:
    """Predicts for every query in every window.

    Args:
        model: On the device of the windows.
        projected: v̂ of W windows, each ``[K, T, P+1, C]``, in any precision or quantized; they may differ in T.
        queries: Q encoded queries.
        fps: Frames sampled per second.

    Returns:
        W · Q results, window by window.
    """
    device = model.level_scale.device
    tokens = [features.values.transpose(0, 1).to(device).float() for features in queries]
    values = pad_sequence(tokens, batch_first=True).transpose(1, 2)
    mask = pad_sequence([torch.ones(len(x), dtype=torch.bool, device=x.device) for x in tokens], batch_first=True)
    lengths = [window.shape[1] for window in projected]
    longest = max(lengths)
    video_mask = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
    padded = [_pad(x, longest) if x.shape[1] < longest else x for x in projected]
    return decode(model.predict(padded, values, video_mask, mask), fps)


def _pad(window: Tensor | QuantizedTokens, frames: int) -> Tensor | QuantizedTokens:
    """A window ``[K, T, P+1, C]`` with zeros at the end, so that it has so many frames."""
    more = frames - window.shape[1]
    if isinstance(window, Tensor):
        return F.pad(window, (0, 0, 0, 0, 0, more))
    return QuantizedTokens(F.pad(window.values, (0, 0, 0, 0, 0, more)), F.pad(window.steps, (0, 0, 0, more)))
