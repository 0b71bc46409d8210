"""What a library remembers between searches: the next page, or a sentence after more videos came, costs what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from r2tuning.backbones import Backbone
from r2tuning.decoding.decode import Moments
from r2tuning.library.cache import Cache
from r2tuning.library.questions import Sentence

MOST_SENTENCES = 256
"""Sentences whose features are remembered; of CLIP ViT-B/32, each takes up to 0.6 MB."""

MOST_SEEN = 64 * 2**20
"""Bytes of what the R² head said that are remembered: about 60,000 windows."""


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
