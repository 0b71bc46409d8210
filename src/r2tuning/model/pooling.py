"""Pooling of patches (Eq. 4 and 5), a few frames at a time and for all queries of a video at once.

On a CPU a part of the frames stays in the processor's cache from the patches to the pooled frames. On a GPU parts only
bound the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

CACHE = 2**20
"""Numbers in one part of the frames on a CPU: small enough for its caches, large enough for fast matrix products."""

MEMORY = 2**28
"""The same on a GPU."""

_MOST = 127  # in 8 bits
_LEAST = -46.0  # e to this power is 1e-20, far below the precision of a sum


@dataclass(frozen=True)
class QuantizedTokens:
    """v̂ in 8 bits with a step of its own for each token. Parts become numbers only when they are pooled, in the cache.

    Attributes:
        values: int8 ``[..., C]``.
        steps: fp32 ``[...]``.

    Example:
        >>> tokens = QuantizedTokens.quantize(torch.tensor([[0.5, -1.27], [0.0, 0.0]]))
        >>> tokens.values.tolist(), tokens.steps.tolist()
        ([[50, -127], [0, 0]], [0.009999999776482582, 0.0])
    """

    values: Tensor
    steps: Tensor

    @classmethod
    def quantize(cls, tokens: Tensor) -> QuantizedTokens:
        """Rounds tokens ``[..., C]``."""
        steps = tokens.abs().amax(dim=-1) / _MOST
        divisors = torch.where(steps > 0, steps, 1)
        return cls((tokens / divisors[..., None]).round_().to(torch.int8), steps.float())

    @property
    def shape(self) -> torch.Size:
        """That of the tokens."""
        return self.values.shape

    @property
    def device(self) -> torch.device:
        """Where the tokens are."""
        return self.values.device

    def __getitem__(self, index: int | slice | Tensor | tuple[int | slice | Tensor, ...]) -> QuantizedTokens:
        """Some tokens; there is no index of a channel."""
        return QuantizedTokens(self.values[index], self.steps[index])

    def move(self, device: torch.device) -> QuantizedTokens:
        """The same on another device."""
        return QuantizedTokens(self.values.to(device), self.steps.to(device))

    def to(self, precision: torch.dtype) -> Tensor:
        """The numbers, ``[..., C]``, side by side in memory whatever the order of the axes."""
        # An expression would make three tensors, whose fresh memory costs more than the arithmetic.
        return (
            torch.empty(self.shape, dtype=precision, device=self.device).copy_(self.values).mul_(self.steps[..., None])
        )


@dataclass(frozen=True)
class Pairs:
    """B pairs of a query and a video, and their order when sorted by video.

    Attributes:
        order: int64 ``[B]``, the pairs sorted by video.
        rank: int64 ``[B]``, the place of each pair in this order.
        mask: bool ``[B, L]``, the real tokens of the sorted pairs.
        rows: For each video, the places of its pairs.
        lengths: For each video, the numbers of tokens of its queries.
    """

    order: Tensor
    rank: Tensor
    mask: Tensor
    rows: list[slice]
    lengths: list[list[int]]

    @classmethod
    def sort(cls, video_index: Tensor, query_mask: Tensor, videos: int) -> Pairs:
        """Sorts queries with mask ``[B, L]`` by their video ``[B]``."""
        order = video_index.argsort(stable=True)
        lengths: list[list[int]] = [[] for _ in range(videos)]
        for video, length in zip(video_index.tolist(), query_mask.sum(1).tolist(), strict=True):
            lengths[video].append(length)
        ends = list(accumulate((len(group) for group in lengths), initial=0))
        return cls(order, order.argsort(), query_mask[order], [slice(*pair) for pair in pairwise(ends)], lengths)

    def pack(self, tokens: Tensor) -> Tensor:
        """Puts the real tokens of each video side by side: ``[B, K, L, C]`` → ``[K, V, S, C]``, zeros at the end."""
        real = torch.split(tokens.transpose(1, 2)[self.order][self.mask], [sum(group) for group in self.lengths])
        return pad_sequence(list(real), batch_first=True).permute(2, 0, 1, 3)


@dataclass(frozen=True)
class Part:
    """Frames of one or more videos that are processed at once."""

    videos: slice
    frames: slice


def plan_parts(video_mask: Tensor, size: int) -> list[Part]:
    """Plans parts that cover every real frame; on a CPU they contain no padding.

    Args:
        video_mask: bool ``[V, T]``, real frames first.
        size: Numbers that a frame takes.

    Example:
        >>> plan_parts(torch.tensor([[True, False]]), 50 * 768)
        [Part(videos=slice(0, 1, None), frames=slice(0, 1, None))]
    """
    videos, frames = video_mask.shape
    if video_mask.device.type != "cpu":
        together = max(1, MEMORY // (frames * size))
        return [Part(slice(v, min(v + together, videos)), slice(0, frames)) for v in range(0, videos, together)]
    lengths = enumerate(video_mask.sum(1).tolist())
    return [Part(slice(video, video + 1), frames) for video, length in lengths for frames in _split(length, size)]


def _split(frames: int, size: int) -> list[slice]:
    """Splits frames of ``size`` numbers each into parts of about the same length."""
    pieces = -(-frames // max(1, CACHE // size))
    return [slice(frames * piece // pieces, frames * (piece + 1) // pieces) for piece in range(pieces)]


def read_part(
    video: Tensor, video_mask: Tensor, endpoints: Tensor | None, part: Part, precision: torch.dtype
) -> Tensor:
    """Reads features with their endpoints in one copy that also converts the precision.

    Args:
        video: ``[V, J, T, P+1, Dv]``; the mean of the J layers is taken.
        video_mask: bool ``[V, T]``; padded frames are read as zeros.
        endpoints: ``[V, T, 2]`` or None.
        part: What to read.
        precision: Of the result.

    Returns:
        ``[v, t, P+1, Dv or Dv + 2]``, contiguous.
    """
    layers = video[part.videos, :, part.frames]
    layer = layers[:, 0] if layers.shape[1] == 1 else layers.to(precision).mean(dim=1)
    width = layer.shape[-1] + (0 if endpoints is None else 2)
    read = layer.new_empty(*layer.shape[:-1], width, dtype=precision)
    read[..., : layer.shape[-1]] = layer
    if endpoints is not None:
        read[..., -2:] = endpoints[part.videos, part.frames, None]
    if read.device.type != "cpu":
        read.masked_fill_(~video_mask[part.videos, part.frames, None, None], 0)
    return read


def attend(patches: Tensor, query: Tensor) -> Tensor:
    """Attention of every query token to every patch of a frame (Eq. 4).

    Args:
        patches: v̂, ``[V, T, P+1, C]``.
        query: From `SpatialPooling.project_query`, ``[V, S, C]``.

    Returns:
        ``[V, S, T, P+1]``, at least in single precision; sums to 1 over the patches. On a CPU what would be below 1e-20
        of the highest may be 0.
    """
    logits = query @ patches.flatten(1, 2).transpose(1, 2)
    logits = logits.view(*logits.shape[:2], *patches.shape[1:3])
    if logits.device.type == "cpu" and _is_wide(logits):
        # What is small would become denormal numbers, with which a CPU multiplies up to a hundred times slower.
        torch.threshold_(logits.sub_(logits.detach().amax(dim=-1, keepdim=True)), _LEAST, -torch.inf)
    return logits.softmax(dim=-1)


def _is_wide(logits: Tensor) -> bool:
    """Whether attention is so sharp, as that of a trained model, that its smallest numbers may not be normal ones."""
    lowest, highest = torch.aminmax(logits.detach())
    return bool(highest - lowest > -_LEAST)


def pool_patches(
    videos: Sequence[Tensor | QuantizedTokens], video_mask: Tensor, query: Tensor, tokens: Tensor, pairs: Pairs
) -> Tensor:
    """Pools the patches of every frame for every query (Eq. 4 and 5).

    Args:
        videos: v̂ of one layer, V times ``[T, P+1, C]``, in any precision or quantized.
        video_mask: bool ``[V, T]``, real frames first.
        query: From `SpatialPooling.project_query`, packed, ``[V, S, C]``.
        tokens: q̂, packed, ``[V, S, C]``.
        pairs: Which query belongs to which video.

    Returns:
        e_token, ``[B, T, C]``; padded frames are zero.
    """
    width = query.shape[-1]
    pooled = query.new_zeros(len(pairs.order), video_mask.shape[1], width)
    for index, frames in enumerate(video_mask.sum(1).tolist()):
        video, lengths = videos[index], pairs.lengths[index]
        own_query, own_tokens = query[index, : sum(lengths)], tokens[index, : sum(lengths)]
        # Patches and seen tokens are both read several times, so that a part holds half as many frames.
        for part in _split(frames, 2 * (video.shape[1] + len(own_query)) * width) if lengths else ():
            pooled[pairs.rows[index], part] = _pool_part(video[part], own_query, own_tokens, lengths)
    return pooled[pairs.rank]


def _pool_part(patches: Tensor | QuantizedTokens, query: Tensor, tokens: Tensor, lengths: list[int]) -> Tensor:
    """Pools ``[t, P+1, C]`` to ``[G, t, C]`` for G queries whose tokens ``[S, C]`` lie side by side."""
    # A function, so that its memory is free, and still in the cache, for the next part.
    read = patches.to(query.dtype)
    attention = attend(read[None], query[None])[0]
    seen = (attention.transpose(0, 1) @ read).add_(tokens)  # [t, S, C]
    if len(set(lengths)) == 1:  # one step instead of one for each query
        return seen.view(len(seen), len(lengths), lengths[0], -1).amax(dim=2).transpose(0, 1)
    return torch.stack([of_query.amax(dim=1) for of_query in torch.split(seen, lengths, dim=1)])
