"""The five losses spelled out: loops over samples, points, frames and layers, with gradients by autograd.

Written from the equations of the paper and the description of the released recipe; shares no code with
`r2tuning.training`, which tests compare with it. Samples are of one length and of different videos.
"""

from __future__ import annotations

import math

import torch
from support.dense_transcription import Dense
from torch import Tensor

TEMPERATURE = 0.07


def spell_losses(
    found: Dense,
    strides: tuple[int, ...],
    moments: list[list[tuple[float, float]]],
    fps: float,
    saliency: list[list[float]],
    positive: list[int],
    recipe: str,
) -> dict[str, Tensor]:
    """The weighted losses of a batch.

    Args:
        found: What the model predicts.
        strides: Of the pyramid, also of levels that the videos have no room for.
        moments: True moments of each sample, seconds.
        fps: Frames per second.
        saliency: True saliency of each sample's frames.
        positive: The positive frame that was drawn for each sample.
        recipe: ``released`` or ``paper``.

    Returns:
        By the names of `r2tuning.training.losses.Losses`.
    """
    samples, frames = found.hidden.shape[:2]
    zero = found.hidden.new_zeros(())
    classification, error, foreground, count = zero, zero, 0, 0
    for b in range(samples):
        n = 0
        for stride in strides:
            for j in range(frames // stride):
                logit = found.logits[b, n]
                probability = torch.sigmoid(logit)
                if found.offsets is None:  # binary cross-entropy with the saliency curve
                    y = saliency[b][j]
                    classification = classification - y * probability.log() - (1 - y) * torch.sigmoid(-logit).log()
                else:
                    target = match_point(j * stride, stride, strides[-1], moments[b], fps)
                    right = torch.sigmoid(-logit) if target is None else probability
                    weight = {"released": 1.0, "paper": 0.1 if target is None else 0.9}[recipe]  # α
                    classification = classification - weight * (1 - right) ** 2 * right.log()  # Eq. 12
                    if target is not None:
                        foreground += 1
                        for side in (0, 1):  # Eq. 13
                            error = error + (found.offsets[b, n, side] - target[side]).abs()
                n, count = n + 1, count + 1
    losses = {"classification": classification / count}
    if found.offsets is not None:
        # The mean over both sides by 0.2, or their sum by 0.1.
        losses["offset"] = 0.2 * error / (2 * foreground) if recipe == "released" else 0.1 * error / foreground

    s = [[cosine(h, found.query_pooled[b, 0]) / TEMPERATURE for h in found.hidden[b]] for b in range(samples)]
    contrast = zero
    for b, p in enumerate(positive):
        level = saliency[b][p]
        if recipe == "paper":  # Eq. 15: Θ holds frames of lower saliency
            others = [t for t in range(frames) if saliency[b][t] < level]
        else:
            others = [t for t in range(frames) if saliency[b][t] <= level and t != p]
        contrast = contrast + minus_log_share(s[b][p], [s[b][t] for t in others])
        if recipe == "released" and found.offsets is not None:
            rivals = [c for c in range(samples) if c != b and saliency[c][p] <= saliency[c][positive[c]]]
            contrast = contrast + minus_log_share(s[b][p], [s[c][p] for c in rivals])
    losses["saliency"] = 0.1 * contrast / samples

    layers = found.query_pooled.shape[1]
    video: list[list[Tensor]] = []  # for each sample and layer
    for b, p in enumerate(positive):
        chosen = [p] if recipe == "released" else [t for t in range(frames) if saliency[b][t] > 0]  # Ω of Eq. 9
        video.append([sum((found.video_cls[b, k, t] for t in chosen), zero) / len(chosen) for k in range(layers)])
    query = [[found.query_pooled[b, k] for k in range(layers)] for b in range(samples)]
    across = zero
    for k in range(layers):  # Eq. 10
        across = across + info_nce([row[k] for row in video], [row[k] for row in query]) / layers
    losses["video_calibration"] = 0.1 * across
    within = zero
    for b in range(samples):  # Eq. 11
        within = within + info_nce(video[b], query[b]) / samples
    losses["layer_calibration"] = 0.1 * within
    return losses


def match_point(
    position: int, stride: int, last: int, moments: list[tuple[float, float]], fps: float
) -> tuple[float, float] | None:
    """Distances of a foreground point to the start and end of its moment, in strides; None for background."""
    low = 0 if stride == 1 else stride
    high = math.inf if stride == last else 2 * stride
    best: tuple[float, tuple[float, float]] | None = None
    for first, second in moments:
        start, end = first * fps, second * fps
        center = (start + end) / 2
        if not max(center - 1.5 * stride, start) <= position <= min(center + 1.5 * stride, end):
            continue
        if not low <= max(position - start, end - position) <= high:
            continue
        if best is None or end - start < best[0]:
            best = end - start, ((position - start) / stride, (end - position) / stride)
    return None if best is None else best[1]


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of two vectors that are not zero."""
    return (x @ y) / (x @ x).sqrt() / (y @ y).sqrt()


def minus_log_share(chosen: Tensor, others: list[Tensor]) -> Tensor:
    """-log(exp(chosen) / (exp(chosen) + Σ exp(others)))."""
    total = chosen.exp()
    for other in others:
        total = total + other.exp()
    return total.log() - chosen


def info_nce(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Mean of both directions, over the rows."""
    rows = range(len(first))
    s = [[cosine(first[i], second[j]) / TEMPERATURE for j in rows] for i in rows]
    total = first[0].new_zeros(())
    for i in rows:
        total = total + minus_log_share(s[i][i], [s[i][j] for j in rows if j != i]) / 2
        total = total + minus_log_share(s[i][i], [s[j][i] for j in rows if j != i]) / 2
    return total / len(first)
