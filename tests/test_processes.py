"""A parallel map: results arrive, deaths cost their task, errors stop it all, and no process outlives it."""

import math
import multiprocessing
import operator
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from support.deaths import list_all

from r2tuning.errors import R2TuningError
from r2tuning.processes import Death, Isolated, map_in_processes


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


def test_a_process_for_single_tasks_is_replaced_when_it_dies_or_is_interrupted() -> None:
    isolated: Isolated[float, None] = Isolated(partial(partial, time.sleep))
    try:
        assert isolated(0.0) is None
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(isolated, 600.0)
            while not waiting.done():  # until the process has the task and the signal reaches it
                isolated.interrupt()
                time.sleep(0.05)
            assert isinstance(waiting.result(), Death)
        assert isolated(0.0) is None
    finally:
        isolated.close()
    isolated.interrupt()  # there is nothing to interrupt
    assert multiprocessing.active_children() == []


def test_a_process_may_start_others() -> None:
    tasks = partial(map_in_processes, partial(partial, operator.neg), jobs=2)
    isolated: Isolated[list[int], list[tuple[int, int]]] = Isolated(partial(list_all, tasks), has_children=True)
    try:
        found = isolated([1, 2, 3])
        assert not isinstance(found, Death)
        assert dict(found) == {1: -1, 2: -2, 3: -3}
    finally:
        isolated.close()
