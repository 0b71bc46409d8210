"""R²-Tuning spelled out: one video, one query, loops over frames, tokens, patches and heads, float64 vectors.

Written from the equations of the paper and the numbers of the released checkpoints, and shares no code with
`r2tuning.model`; it is what tests and benchmarks compare that with. Weights are those of an authors' file, under their
names. Letters: K layers, T frames, P patches, L tokens, C hidden, N points.

Two forms: ``released`` is what the checkpoints compute, ``paper`` what Eq. 1 to 8 and 14 say. Where the paper says
nothing (endpoints, layers of the MLP, position encoding, pyramid) both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Transcript:
    """All that is worth comparing.

    Attributes:
        fused: ``[K, T, C]``, what enters the temporal layer (Eq. 7), in the order run: deepest CLIP layer first.
        states: ``[K, T, C]``, h after each step (Eq. 8), in the same order.
        hidden: ``[T, C]``, what the heads read: ReLU of the last state (paper: the last state).
        video_cls: ``[K, T, C]``, projected [CLS] tokens, oldest layer first.
        query_pooled: ``[K, C]``, pooled projected query of each layer, oldest first; the first one is q̃.
        points: ``[N, 2]``, position and stride in frames.
        class_logits: ``[N]``.
        offsets: ``[N, 2]`` in strides; None for the saliency family.
        moments: ``[≤ 50, 3]``, start and end in seconds, score; best first. Empty for the saliency family.
        saliency: ``[T]``.
    """

    fused: Array
    states: Array
    hidden: Array
    video_cls: Array
    query_pooled: Array
    points: Array
    class_logits: Array
    offsets: Array | None
    moments: Array
    saliency: Array


def transcribe(
    weights: Mapping[str, Array], video: Array, query: Array, fps: float, heads: int = 8, form: str = "released"
) -> Transcript:
    """Grounds one query in one video.

    Args:
        weights: Float64, by the authors' names.
        video: ``[K, T, P+1, Dv]``, oldest layer first.
        query: ``[K, L, Dq]``.
        fps: Sampled frames per second.
        heads: Attention heads of the temporal layer, which no weight tells.
        form: ``released`` or ``paper``.

    Returns:
        The answer and what led to it.
    """
    grounding = "coord_head.module.1.weight" in weights
    layers, frames = video.shape[:2]
    fused, states = [], []
    video_cls: list[list[Array]] = [[] for _ in range(layers)]
    tokens: list[list[Array]] = [[] for _ in range(layers)]
    state: list[Array] | None = None
    if form == "paper":  # h⁰ = 0
        state = [np.zeros_like(weights["adapter.tem.ffn_norm.bias"]) for _ in range(frames)]
    for layer in reversed(range(layers)):
        tokens[layer] = [feature_map(weights, "adapter.query_map", token) for token in query[layer]]
        pooled = []
        for t in range(frames):
            patches = [
                feature_map(
                    weights,
                    "adapter.video_map",
                    np.append(patch, [t / frames, (t + 1) / frames]) if grounding else patch,
                )
                for patch in video[layer, t]
            ]
            video_cls[layer].append(patches[0])
            pooled.append(pool_frame(weights, patches, tokens[layer], layer, form))
        if state is None:
            entering = pooled
        else:  # Eq. 7
            gate = sigmoid(weights["adapter.gate"][layer])
            entering = [gate * e + (1 - gate) * h for e, h in zip(pooled, state, strict=True)]
        state = refine(weights, entering, tokens[layer], heads)
        fused.append(entering)
        states.append(state)
    assert state is not None
    hidden = state if form == "paper" else [relu(h) for h in state]
    query_pooled = [pool_query(weights, q) for q in tokens]
    levels = pyramid(weights, hidden)
    points, logits, offsets = [], [], []
    for i, (stride, level) in enumerate(levels):
        points += [(j * stride, stride) for j in range(len(level))]
        logits += [float(out[0]) for out in head(weights, "class_head", level)]
        if grounding:
            offsets += [np.exp(out) * weights["coef"][i] for out in head(weights, "coord_head", level)]
    return Transcript(
        fused=np.array(fused),
        states=np.array(states),
        hidden=np.array(hidden),
        video_cls=np.array(video_cls),
        query_pooled=np.array(query_pooled),
        points=np.array(points),
        class_logits=np.array(logits),
        offsets=np.array(offsets) if grounding else None,
        moments=rank_moments(points, logits, offsets, fps),
        saliency=(
            np.array([cosine(h, query_pooled[0]) for h in hidden])  # Eq. 14
            if form == "paper"
            else saliency_curve(points, logits, hidden, query_pooled[0] if grounding else None)
        ),
    )


def feature_map(weights: Mapping[str, Array], name: str, token: Array) -> Array:
    """The MLP of Eq. 2 and 3 for one token."""
    x = layer_norm(weights, f"{name}.0", token)
    x = relu(linear(weights, f"{name}.2", x))
    return linear(weights, f"{name}.6", layer_norm(weights, f"{name}.4", x))


def pool_frame(
    weights: Mapping[str, Array], tokens_of_frame: list[Array], tokens: list[Array], layer: int, form: str
) -> Array:
    """Query-modulated spatial pooling of one frame (Eq. 4 to 6).

    The softmax runs over [CLS] and patches; in the paper over the P patches, and w_q, w_v are matrices without a bias.
    """
    cls, *patches = tokens_of_frame
    if form == "paper":
        keys = [weights["adapter.v_map.weight"] @ patch for patch in patches]
    else:
        patches = tokens_of_frame
        keys = [linear(weights, "adapter.v_map", patch) for patch in patches]
    attended = []
    for token in tokens:
        asked = weights["adapter.q_map.weight"] @ token if form == "paper" else linear(weights, "adapter.q_map", token)
        attention = softmax([asked @ key / math.sqrt(len(token)) for key in keys])
        seen = np.zeros_like(token)
        for share, patch in zip(attention, patches, strict=True):
            seen = seen + share * patch
        attended.append(seen + token)
    best = attended[0]
    for other in attended[1:]:
        best = np.maximum(best, other)
    return cls + math.tanh(weights["adapter.scale"][layer]) * best


def refine(weights: Mapping[str, Array], fused: list[Array], tokens: list[Array], heads: int) -> list[Array]:
    """Recurrent temporal refinement of all frames (Eq. 8), post-norm."""
    encoding = [position_encoding(t, len(fused), len(x)) for t, x in enumerate(fused)]
    located = [x + e for x, e in zip(fused, encoding, strict=True)]
    answers = attend(weights, "adapter.tem.cross_att", located, tokens, tokens, heads)
    crossed = [layer_norm(weights, "adapter.tem.cross_att_norm", x + a) for x, a in zip(fused, answers, strict=True)]
    located = [x + e for x, e in zip(crossed, encoding, strict=True)]
    answers = attend(weights, "adapter.tem.self_att", located, located, crossed, heads)
    refined = []
    for x, answer in zip(crossed, answers, strict=True):
        looked = layer_norm(weights, "adapter.tem.self_att_norm", x + answer)
        inner = relu(linear(weights, "adapter.tem.ffn.mapping.0", looked))
        fed = looked + linear(weights, "adapter.tem.ffn.mapping.2", inner)
        refined.append(layer_norm(weights, "adapter.tem.ffn_norm", fed))
    return refined


def attend(
    weights: Mapping[str, Array],
    name: str,
    queries: list[Array],
    keys: list[Array],
    values: list[Array],
    heads: int,
) -> list[Array]:
    """Multi-head attention of every query to all keys."""
    ks = [linear(weights, f"{name}.k", key) for key in keys]
    vs = [linear(weights, f"{name}.v", value) for value in values]
    answers = []
    for query in queries:
        q = linear(weights, f"{name}.q", query)
        width = len(q) // heads
        merged = np.zeros_like(q)
        for first in range(0, len(q), width):
            part = slice(first, first + width)  # the channels of one head
            shares = softmax([q[part] @ k[part] / math.sqrt(width) for k in ks])
            for share, v in zip(shares, vs, strict=True):
                merged[part] += share * v[part]
        answers.append(linear(weights, f"{name}.m", merged))
    return answers


def position_encoding(t: int, frames: int, channels: int) -> Array:
    """Sinusoid of the relative position of frame t."""
    position = 2 * math.pi * (t + 1) / (frames + 1e-6)
    angles = [position / 10000 ** (2 * (c // 2) / channels) for c in range(channels)]
    return np.array([math.cos(angle) if c % 2 else math.sin(angle) for c, angle in enumerate(angles)])


def pool_query(weights: Mapping[str, Array], tokens: list[Array]) -> Array:
    """Token-wise adaptive pooling."""
    shares = softmax([float(weights["pooling.att.weight"][0] @ token) for token in tokens])
    pooled = np.zeros_like(tokens[0])
    for share, token in zip(shares, tokens, strict=True):
        pooled = pooled + share * token
    return pooled


def pyramid(weights: Mapping[str, Array], hidden: list[Array]) -> list[tuple[int, list[Array]]]:
    """Stride and entries of every level that the video has room for."""
    levels = [(1, hidden)]
    i = 1
    while f"pyramid.blocks.{i}.1.weight" in weights:
        if len(hidden) >= 2**i:
            entries = hidden
            for step in range(i):
                name = f"pyramid.blocks.{i}.{5 * step + 1}"
                kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]  # [C, C, 2], [C]
                halved = []
                for j in range(len(entries) // 2):
                    x = kernel[:, :, 0] @ entries[2 * j] + kernel[:, :, 1] @ entries[2 * j + 1] + bias
                    halved.append(relu(layer_norm(weights, f"pyramid.blocks.{i}.{5 * step + 3}", x)))
                entries = halved
            levels.append((2**i, entries))
        i += 1
    return levels


def head(weights: Mapping[str, Array], name: str, level: list[Array]) -> list[Array]:
    """Two convolutions of width 3 on one level, zeros beyond its ends."""
    return convolve(weights, f"{name}.module.3", [relu(x) for x in convolve(weights, f"{name}.module.1", level)])


def convolve(weights: Mapping[str, Array], name: str, entries: list[Array]) -> list[Array]:
    """Convolution of width 3, padding 1."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]  # [out, C, 3], [out]
    convolved = []
    for j in range(len(entries)):
        x = bias
        for tap in range(3):
            if 0 <= j + tap - 1 < len(entries):
                x = x + kernel[:, :, tap] @ entries[j + tap - 1]
        convolved.append(x)
    return convolved


def rank_moments(points: list[tuple[int, int]], logits: list[float], offsets: list[Array], fps: float) -> Array:
    """The 50 best moments; none without offsets."""
    moments = []
    for (position, stride), logit, offset in zip(points, logits, offsets, strict=False):
        start, end = position - offset[0] * stride, position + offset[1] * stride
        moments.append((start / fps, end / fps, sigmoid(logit)))
    moments.sort(key=lambda moment: -moment[2])
    return np.array(moments[:50]).reshape(-1, 3)


def saliency_curve(
    points: list[tuple[int, int]], logits: list[float], hidden: list[Array], query: Array | None
) -> Array:
    """Best score of each frame over levels, times the cosine to q̃ (Eq. 14) where there is one."""
    frames = len(hidden)
    curve = np.zeros(frames)
    for stride in sorted({stride for _, stride in points}):
        scores = [sigmoid(logit) for (_, s), logit in zip(points, logits, strict=True) if s == stride]
        stretched = [score for score in scores for _ in range(frames // len(scores))]
        stretched += [scores[-1]] * (frames - len(stretched))
        curve = np.maximum(curve, stretched)
    if query is not None:
        for t, h in enumerate(hidden):
            curve[t] *= cosine(h, query)
    return curve


def cosine(h: Array, query: Array) -> float:
    """Cosine of a frame and the pooled query; 0 for a frame of zeros."""
    norms = float(np.linalg.norm(h) * np.linalg.norm(query))
    return float(h @ query) / norms if norms > 0 else 0.0


def linear(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    """Affine map of a vector."""
    product: Array = weights[f"{name}.weight"] @ x
    return product + weights[f"{name}.bias"]


def layer_norm(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    """LayerNorm of a vector, eps 1e-5."""
    normalized = (x - x.mean()) / math.sqrt(x.var() + 1e-5)
    return normalized * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def softmax(logits: list[float]) -> list[float]:
    """Softmax of a few numbers."""
    top = max(logits)
    exponentials = [math.exp(x - top) for x in logits]
    total = sum(exponentials)
    return [x / total for x in exponentials]


def relu(x: Array) -> Array:
    """Negative entries become zero."""
    return np.maximum(x, 0)


def sigmoid(x: float) -> float:
    """Logistic function."""
    return 1 / (1 + math.exp(-x))
