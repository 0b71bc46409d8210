"""Tasks that end processes; nothing else is imported with them, so that workers start quickly."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any


def kill_parent(number: int) -> int:
    """Returns the number, unless it is 1: then the process dies that started this one."""
    if number == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return number


def list_all(make: Callable[[Any], Iterable[Any]]) -> Callable[[Any], list[Any]]:
    """Returns a function that lists what an iterator yields, for results that are sent elsewhere."""
    return lambda task: list(make(task))
