"""Keeps what was used last. It imports no PyTorch, so that processes without a model can use it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Cache(Generic[Key, Result]):
    """Keeps results of a total size; those that were not asked for longest are dropped. Threads may share it.

    Example:
        >>> cache: Cache[str, bytes] = Cache(5, len)
        >>> cache.put("a", b"123"); cache.put("b", b"45"); cache.get("a")
        b'123'
        >>> cache.put("c", b"6"); cache.get("b") is None
        True
    """

    def __init__(self, most: int, measure: Callable[[Result], int] = lambda _: 1) -> None:
        self._most = most
        self._measure = measure
        self._kept: OrderedDict[Key, tuple[Result, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> Result | None:
        """The result that was put there, if it is still there."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Key, result: Result) -> None:
        """Keeps a result, unless it alone is too large."""
        size = self._measure(result)
        if size > self._most:
            return
        with self._lock:
            self._size += size - self._kept.pop(key, (None, 0))[1]
            self._kept[key] = result, size
            while self._size > self._most:
                self._size -= self._kept.popitem(last=False)[1][1]
