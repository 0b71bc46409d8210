"""Rank correlation of a saliency curve with people's ratings: Kendall's τ and Spearman's ρ."""

import math

import numpy as np
from numpy.typing import NDArray

from r2tuning.intervals import FloatArray


def kendall_tau(x: FloatArray, y: FloatArray) -> float:
    """Computes Kendall's τ-b, which corrects for ties (Kendall, 1945), in O(n log² n).

    Takes ``[n]`` values of each side. Returns τ in [-1, 1]; 0 if one side is constant.

    Example:
        >>> round(kendall_tau(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])), 4)
        0.6667
    """
    x_codes, y_codes = _codes(x), _codes(y)
    pairs = math.comb(len(x_codes), 2)
    x_ties, y_ties = _tied_pairs(x_codes), _tied_pairs(y_codes)
    both = _tied_pairs(x_codes * (int(y_codes.max(initial=0)) + 1) + y_codes)
    # In order of x, and of y among equal x, a strictly falling pair of y is discordant.
    discordant = _count_inversions(y_codes[np.lexsort((y_codes, x_codes))])
    untied = math.sqrt((pairs - x_ties) * (pairs - y_ties))
    return (pairs - x_ties - y_ties + both - 2 * discordant) / untied if untied else 0.0


def spearman_rho(x: FloatArray, y: FloatArray) -> float:
    """Computes Spearman's ρ: the correlation of ranks, equal values sharing their average rank.

    Takes ``[n]`` values of each side. Returns ρ in [-1, 1]; 0 if one side is constant.

    Example:
        >>> round(spearman_rho(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])), 4)
        0.8
    """
    x_ranks, y_ranks = (rank_values(values) - (len(values) + 1) / 2 for values in (x, y))
    spread = math.sqrt((x_ranks @ x_ranks) * (y_ranks @ y_ranks))
    return float(x_ranks @ y_ranks) / spread if spread else 0.0


def _codes(values: FloatArray) -> NDArray[np.int64]:
    """``[n]`` integers from 0 in the order of ``values``, equal for equal values."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _tied_pairs(codes: NDArray[np.int64]) -> int:
    """Number of pairs of equal codes."""
    counts = np.unique(codes, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def rank_values(values: FloatArray) -> FloatArray:
    """Computes ``[n]`` ranks from 1, equal values sharing the mean of theirs."""
    codes = _codes(values)
    counts = np.bincount(codes)
    ranks: FloatArray = counts.cumsum() - (counts - 1) / 2
    return ranks[codes]


def _count_inversions(codes: NDArray[np.int64]) -> int:
    """Number of pairs i < j with ``codes[i] > codes[j]``, by a bottom-up merge sort, all blocks at once.

    In a stable merge, an element of the right half that lands at position p, with r of the right half before it,
    has p - r elements of the left half that are not greater; the others are inversions.
    """
    width, inversions = 1, 0
    # Padding at the end, greater than all, adds no inversion.
    codes = np.pad(codes, (0, (1 << max(0, len(codes) - 1).bit_length()) - len(codes)), constant_values=len(codes))
    while width < len(codes):
        blocks = codes.reshape(-1, 2 * width)
        order = np.argsort(blocks, axis=1, kind="stable")
        landed = int(np.nonzero(order >= width)[1].sum())
        inversions += len(blocks) * (width * width + width * (width - 1) // 2) - landed
        codes = np.take_along_axis(blocks, order, axis=1).reshape(-1)
        width *= 2
    return inversions
