"""Dropout masks as packed random bits: one bit of memory for each entry, and few draws.

PyTorch's dropout draws one random number for each entry, one after the other; on a CPU that takes longer than the
matrix products around it. Here a random word serves 64 entries.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 256
"""Chances of keeping an entry are multiples of 1/256; 0.5 is met exactly with one word for 64 entries."""


def kept_share(dropout: float) -> float:
    """The chance that `draw_bits` gives an entry: 1 − dropout to the nearest multiple of 1/256 that is not 0.

    Dividing by it, rather than by 1 − dropout, keeps the expected value exact.

    Args:
        dropout: Chance of dropping, in [0, 1).

    Example:
        >>> kept_share(0.5), kept_share(0.3) * 256, kept_share(0.0)
        (0.5, 179.0, 1.0)
    """
    return max(1, round(LEVELS * (1 - dropout))) / LEVELS


def draw_bits(count: int, share: float, device: torch.device) -> Tensor:
    """Random bits, independent of each other, that are 1 with a given chance.

    A number of n binary digits, the last first, decides on n random words: ``or`` for the digit 1, ``and`` for 0. Each
    halves the chance so far and adds a half for a 1.

    Args:
        count: Bits wanted.
        share: Chance of a 1: a multiple of 1/256 below 1.
        device: Where to draw; from PyTorch's own generator there.

    Returns:
        int32, ``count`` bits or a few more.

    Example:
        >>> draw_bits(100, 0.5, torch.device("cpu")).shape
        torch.Size([4])
    """
    digits = round(share * LEVELS)
    words = torch.zeros(-(-count // 64), dtype=torch.int64, device=device)
    first = (digits & -digits).bit_length() - 1  # zeros at the end leave the chance at 0
    for place in range(first, LEVELS.bit_length() - 1):
        random = torch.empty_like(words).random_(-(2**63), None)
        words = words | random if digits >> place & 1 else words & random
    return words.view(torch.int32)


def spread_bits(words: Tensor, count: int, place: Tensor | None = None) -> Tensor:
    """The first ``count`` bits as integers with all bits alike, which `keep` takes.

    Args:
        words: int32, from `draw_bits`.
        count: Entries.
        place: int32, for 32 numbers of each word or more: where to write them, so that masks one after the other may
            lie in the same memory, which stays in the processor's cache. None for new memory.

    Returns:
        int32 ``[count]``, -1 for a 1 and 0 for a 0.

    Example:
        >>> spread_bits(torch.tensor([0b101], dtype=torch.int32), 3).tolist()
        [-1, 0, -1]
    """
    shifts = torch.arange(31, -1, -1, dtype=torch.int32, device=words.device)
    place = words.new_empty(32 * len(words)) if place is None else place[: 32 * len(words)]
    torch.bitwise_left_shift(words, shifts[:, None], out=place.view(32, -1))
    return place.bitwise_right_shift_(31)[:count]


def keep(values: Tensor, mask: Tensor | None) -> Tensor:
    """Zeroes entries in place, without a multiplication: a float with no bits is 0.

    Args:
        values: Contiguous floats of 4 or 8 bytes.
        mask: From `spread_bits`, one for each entry; None keeps all.

    Returns:
        The same tensor.

    Example:
        >>> keep(torch.tensor([1.5, float("inf")]), torch.tensor([-1, 0], dtype=torch.int32))
        tensor([1.5000, 0.0000])
    """
    if mask is not None:
        integer = torch.int32 if values.element_size() == 4 else torch.int64
        values.view(integer).view(-1).bitwise_and_(mask.to(integer))
    return values
