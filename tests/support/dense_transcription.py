"""R²-Tuning as a plain implementation computes it: whole tensors, one operation of PyTorch for each of the paper.

The baseline of benchmarks, and what training is compared with. Like `transcription`, which judges it, it shares no code
with `r2tuning.model` and takes weights by the authors' names; unlike that, it does not loop over frames, tokens and
patches, and has gradients. Every query goes through all of it, as in the released scripts, and every input is searched
for padding, even if it has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]


class Dense(NamedTuple):
    """Predictions of a batch.

    What the heads read ``[B, T, C]``, class logits ``[B, N]``, offsets ``[B, N, 2]`` (None for the saliency
    family), projected [CLS] ``[B, K, T, C]`` and pooled queries ``[B, K, C]``, oldest layer first.
    """

    hidden: Tensor
    logits: Tensor
    offsets: Tensor | None
    video_cls: Tensor
    query_pooled: Tensor


def predict_densely(
    weights: Weights,
    video: Tensor,
    query: Tensor,
    heads: int = 8,
    *,
    padding: bool = True,
    form: str = "released",
    dropout: float = 0.0,
) -> Dense:
    """Predicts at every point.

    Args:
        weights: By the authors' names.
        video: ``[B, K, T, P+1, Dv]``, oldest layer first. Frames and tokens that are not finite are padding: attention
            between frames and to the query leaves them out. They are set to zero, in place.
        query: ``[B, K, L, Dq]``, in the same precision.
        heads: Attention heads of the temporal layer.
        padding: Whether to look for padding. Without, every frame and token must be real.
        form: ``released`` or ``paper``, see `transcription`.
        dropout: Rate before each linear layer of the feature maps.
    """
    grounding = "coord_head.module.1.weight" in weights
    layers, frames, patches = video.shape[1:4]
    real_frames: Tensor | None = None
    real_tokens: Tensor | None = None
    if padding:
        real_frames, real_tokens = video[:, 0, :, 0, 0].isfinite(), query[:, 0, :, 0].isfinite()
        video.masked_fill_(~video.isfinite(), 0)
        query.masked_fill_(~query.isfinite(), 0)
    if grounding:
        ends = torch.arange(frames + 1, dtype=video.dtype) / frames
        ends = torch.stack([ends[:-1], ends[1:]], dim=-1)[:, None].expand(len(video), layers, -1, patches, -1)
        video = torch.cat([video, ends], dim=-1)
    video = feature_map(weights, "adapter.video_map", video, dropout)
    query = feature_map(weights, "adapter.query_map", query, dropout)
    channels = video.shape[-1]
    channel = torch.arange(channels)
    place = 2 * math.pi * torch.arange(1, frames + 1) / (frames + 1e-6)
    angle = place[:, None] / 10000 ** (2 * (channel // 2) / channels)
    position = torch.where(channel % 2 == 0, angle.sin(), angle.cos()).to(video.dtype)
    state = video.new_zeros(len(video), frames, channels) if form == "paper" else None
    for layer in reversed(range(layers)):
        v, q = video[:, layer], query[:, layer]  # [B, T, P+1, C], [B, L, C]
        seen = v[:, :, 1:] if form == "paper" else v
        asked, keys = linear(weights, "adapter.q_map", q), linear(weights, "adapter.v_map", seen)
        attention = (asked[:, None] @ keys.transpose(-1, -2) / math.sqrt(channels)).softmax(dim=-1)
        best = (attention @ seen + q[:, None]).amax(dim=2)  # Eq. 4 and 5
        x = v[:, :, 0] + weights["adapter.scale"][layer].tanh() * best
        if state is not None:  # Eq. 7
            gate = weights["adapter.gate"][layer].sigmoid()
            x = gate * x + (1 - gate) * state
        looked = attend(weights, "cross_att", x + position, q, q, heads, real_tokens)
        x = norm(weights, "adapter.tem.cross_att_norm", x + looked)
        located = x + position
        looked = attend(weights, "self_att", located, located, x, heads, real_frames)
        x = norm(weights, "adapter.tem.self_att_norm", x + looked)
        fed = linear(weights, "adapter.tem.ffn.mapping.0", x).relu()
        state = norm(weights, "adapter.tem.ffn_norm", x + linear(weights, "adapter.tem.ffn.mapping.2", fed))
    assert state is not None
    hidden = state if form == "paper" else state.relu()
    logits, offsets = [], []
    for index, level in enumerate(pyramid(weights, hidden)):
        logits.append(head(weights, "class_head", level)[..., 0])
        if grounding:
            offsets.append(head(weights, "coord_head", level).exp() * weights["coef"][index])
    scores = query @ weights["pooling.att.weight"][0]  # [B, K, L]
    if real_tokens is not None:
        scores = scores.masked_fill(~real_tokens[:, None], -math.inf)
    pooled = (scores.softmax(dim=-1)[..., None] * query).sum(dim=2)
    return Dense(
        hidden,
        torch.cat(logits, dim=1),
        torch.cat(offsets, dim=1) if grounding else None,
        video[:, :, :, 0],
        pooled,
    )


def feature_map(weights: Weights, name: str, x: Tensor, dropout: float = 0.0) -> Tensor:
    """The MLP of Eq. 2 and 3."""
    x = linear(weights, f"{name}.2", F.dropout(norm(weights, f"{name}.0", x), dropout)).relu()
    return linear(weights, f"{name}.6", F.dropout(norm(weights, f"{name}.4", x), dropout))


def attend(
    weights: Weights, name: str, query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None
) -> Tensor:
    """Multi-head attention of ``[B, T, C]`` to ``[B, S, C]``, where the mask ``[B, S]`` is True."""
    q, k, v = (
        linear(weights, f"adapter.tem.{name}.{letter}", x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for letter, x in (("q", query), ("k", key), ("v", value))
    )
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        logits.masked_fill_(~mask[:, None, None], -math.inf)
    return linear(weights, f"adapter.tem.{name}.m", (logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


def pyramid(weights: Weights, hidden: Tensor) -> list[Tensor]:
    """Levels ``[B, ⌊T/stride⌋, C]`` that the video has room for."""
    levels = [hidden]
    index = 1
    while f"pyramid.blocks.{index}.1.weight" in weights and hidden.shape[1] >= 2**index:
        x = hidden
        for step in range(index):
            name = f"pyramid.blocks.{index}.{5 * step + 1}"
            x = F.conv1d(x.transpose(1, 2), weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2)
            x = norm(weights, f"pyramid.blocks.{index}.{5 * step + 3}", x.transpose(1, 2)).relu()
        levels.append(x)
        index += 1
    return levels


def head(weights: Weights, name: str, level: Tensor) -> Tensor:
    """Two convolutions of width 3 on one level."""
    x = level.transpose(1, 2)
    x = F.conv1d(x, weights[f"{name}.module.1.weight"], weights[f"{name}.module.1.bias"], padding=1).relu()
    x = F.conv1d(x, weights[f"{name}.module.3.weight"], weights[f"{name}.module.3.bias"], padding=1)
    return x.transpose(1, 2)


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Affine map; w_q and w_v have no bias in the paper's form."""
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    """LayerNorm."""
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])
