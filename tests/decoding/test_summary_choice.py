"""The knapsack is that of trying every choice."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2tuning.decoding.summary import choose_items


def best_value(values: list[int], sizes: list[int], capacity: int) -> int:
    """Of all subsets that fit."""
    items = range(len(values))
    return max(
        sum(values[i] for i in chosen)
        for count in range(len(values) + 1)
        for chosen in combinations(items, count)
        if sum(sizes[i] for i in chosen) <= capacity
    )


@given(st.lists(st.tuples(st.integers(-3, 20), st.integers(1, 12)), max_size=9), st.integers(0, 40))
def test_no_choice_that_fits_is_worth_more(items: list[tuple[int, int]], capacity: int) -> None:
    values, sizes = [value for value, _ in items], [size for _, size in items]
    chosen = choose_items(values, sizes, capacity)
    assert chosen == sorted(set(chosen))
    assert sum(sizes[i] for i in chosen) <= capacity
    assert sum(values[i] for i in chosen) == best_value(values, sizes, capacity)
    assert all(values[i] > 0 for i in chosen)


def test_the_best_alone_may_not_be_among_the_best_together() -> None:
    assert choose_items([10.0, 9.0, 9.0], [5, 3, 3], 6) == [1, 2]
    assert choose_items([10.0, 9.0, 9.0], [5, 3, 3], 5) == [0]
    assert choose_items([1.0], [3], 2) == []
    assert choose_items([], [], 7) == []


@pytest.mark.parametrize(("sizes", "capacity"), [([0], 3), ([2, -1], 3), ([1, 1], -1)])
def test_what_cannot_be_is_refused(sizes: list[int], capacity: int) -> None:
    with pytest.raises(ValueError, match="sizes must be at least 1"):
        choose_items([1.0] * len(sizes), sizes, capacity)
