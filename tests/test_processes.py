"""A parallel map: results arrive, deaths cost their task, errors stop it all, and no process outlives it."""

import math
import multiprocessing
import operator
import os
import signal
from functools import partial

import pytest

from r2tuning.errors import R2TuningError
from r2tuning.processes import Death, map_in_processes


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_every_task_has_its_result(jobs: int) -> None:
    found = dict(map_in_processes(partial(partial, operator.neg), range(1, 6), jobs))
    assert found == {number: -number for number in range(1, 6)}
    assert list(map_in_processes(partial(partial, operator.neg), [], jobs)) == []


def test_every_death_costs_its_task_only() -> None:
    found = dict(map_in_processes(partial(partial, os._exit), [3, 4, 5], 2))
    assert found == {code: Death(f"the process ended with code {code}") for code in (3, 4, 5)}
    assert multiprocessing.active_children() == []


def test_workers_that_cannot_start_are_an_error() -> None:
    with pytest.raises(R2TuningError, match=r"no worker process could start: .* code 7; use fewer --jobs"):
        list(map_in_processes(partial(os._exit, 7), [1], 2))


def test_closing_ends_the_processes() -> None:
    results = map_in_processes(partial(partial, math.sqrt), [4, 9, 16], 2)
    next(results)
    results.close()
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
