"""What to take along when there is room for so much: the 0/1 knapsack, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def choose_items(values: Sequence[float], sizes: Sequence[int], capacity: int) -> list[int]:
    """Chooses the items of the greatest total value that fit, by dynamic programming over the room that is used.

    Takes time in proportion to items × capacity, and an eighth of that in bytes.

    Args:
        values: Of every item; those that are not positive are never taken.
        sizes: Of every item, whole numbers of at least 1.
        capacity: Room for the sizes of the chosen items together, at least 0.

    Returns:
        Ascending indices; of equally good choices one.

    Raises:
        ValueError: If a size is below 1 or the capacity below 0.

    Example:
        >>> choose_items([6.0, 5.0, 5.0], sizes=[4, 3, 3], capacity=6)
        [1, 2]
    """
    if capacity < 0 or any(size < 1 for size in sizes):
        raise ValueError(
            f"sizes must be at least 1 and the capacity at least 0, not {min(sizes, default=1)}, {capacity}"
        )
    best = np.zeros(capacity + 1)  # value that fits into each room
    taken = []  # of each item, into which rooms it goes, as bits
    for value, size in zip(values, sizes, strict=True):
        better = np.zeros(capacity + 1, dtype=bool)
        if value > 0 and size <= capacity:
            filled = best[: capacity + 1 - size] + value
            better[size:] = filled > best[size:]
            best[size:] = np.maximum(best[size:], filled)
        taken.append(np.packbits(better))
    chosen, room = [], capacity
    for item in range(len(sizes) - 1, -1, -1):
        if taken[item][room // 8] >> (7 - room % 8) & 1:
            chosen.append(item)
            room -= sizes[item]
    return chosen[::-1]
