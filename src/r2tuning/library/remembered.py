"""What a library remembers between searches: the next page, or a sentence after more videos came, costs what is new."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from r2tuning.backbones import Backbone
from r2tuning.decoding.decode import Moments
from r2tuning.library.questions import Sentence

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")

MOST_SENTENCES = 256
"""Sentences whose features are remembered; of CLIP ViT-B/32, each takes up to 0.6 MB."""

MOST_SEEN = 64 * 2**20
"""Bytes of what the R² head said that are remembered: about 60,000 windows."""


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


@dataclass(frozen=True)
class Seen:
    """What the R² head says of a window for a sentence.

    Attributes:
        moments: ``[N, 3]``, distinct, best first, in seconds from the video's first frame.
        saliency: fp32 ``[T]``, raw.
        top: The top saliency of the window.
        head: Log-odds of the presence head; 0 without one.
    """

    moments: Moments
    saliency: NDArray[np.float32]
    top: float
    head: float

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return 500 + self.moments.nbytes + self.saliency.nbytes


SeenKey = tuple[str, str, int, int]
"""A sentence, the identity of a video, the first frame of a window and the one after its last."""


@dataclass(frozen=True)
class Remembered:
    """Of sentences their features, and what was seen for them; for one model.

    Attributes:
        sentences: By text.
        seen: See `SeenKey`.
    """

    sentences: Cache[str, Sentence] = field(default_factory=lambda: Cache(MOST_SENTENCES))
    seen: Cache[SeenKey, Seen] = field(default_factory=lambda: Cache(MOST_SEEN, lambda seen: seen.size))

    def encode(self, backbone: Backbone, texts: Sequence[str]) -> list[Sentence]:
        """The features of sentences; those that are not remembered are encoded.

        Raises:
            QueryError: If one is empty.
        """
        found = {text: known for text in texts if (known := self.sentences.get(text)) is not None}
        if fresh := [text for text in dict.fromkeys(texts) if text not in found]:
            for text, features, vector in zip(fresh, *backbone.encode_and_embed_queries(fresh), strict=True):
                found[text] = Sentence(text, features, vector.cpu())
                self.sentences.put(text, found[text])
        return [found[text] for text in texts]
