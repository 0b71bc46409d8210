"""Moments that a library found for a query, in pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from r2tuning.errors import LibraryError
from r2tuning.types import Moment


@dataclass(frozen=True)
class Hit:
    """A moment of a video of the library.

    Attributes:
        video: The file; of several copies, one that is there.
        moment: Seconds on the player's clock; its score is that of the hit.
        score: Probability that the moment is what the query describes, if the hits are calibrated; otherwise it only
            ranks.
        cosine: Of the query and the nearest frame around it.
        refined: Whether the R² head found its start and end; otherwise they are those of a peak of similarity.
        number: Of the video in the library.
        copies: Other files with the same content.
    """

    video: str
    moment: Moment
    score: float
    cosine: float
    refined: bool
    number: int
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curve:
    """Saliency ``[n]`` of a video from frame ``start`` on."""

    number: int
    start: int
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """One page of the moments that a library has for a query, best first.

    Attributes:
        query: The sentence.
        hits: The moments.
        videos: How many videos were searched.
        seconds: How long they last.
        calibrated: Whether scores are probabilities.
        present: Whether any video probably shows what the query describes; None where the model cannot tell.
        next: What `Library.search` takes as ``after`` for the next page; empty after the last one.
        curves: Saliency of the windows that were refined, for charts.
    """

    query: str
    hits: tuple[Hit, ...]
    videos: int
    seconds: float
    calibrated: bool
    present: bool | None
    next: str = ""
    curves: tuple[Curve, ...] = field(default=(), repr=False)

    @overload
    def __getitem__(self, place: int) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Hit]: ...

    def __getitem__(self, place: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[place]

    def __len__(self) -> int:
        return len(self.hits)

    def to_dict(self) -> dict[str, Any]:
        """The hits as JSON has them; seconds have 3 decimals and scores 6."""
        return {
            "query": self.query,
            "videos": self.videos,
            "seconds": round(self.seconds, 3),
            "calibrated": self.calibrated,
            "present": self.present,
            "next": self.next,
            "hits": [
                {
                    "video": hit.video,
                    "start": round(hit.moment.start, 3) + 0.0,
                    "end": round(hit.moment.end, 3) + 0.0,
                    "score": round(hit.score, 6),
                    "cosine": round(hit.cosine, 6),
                    "refined": hit.refined,
                    "copies": list(hit.copies),
                }
                for hit in self.hits
            ],
        }


@dataclass(frozen=True)
class Cursor:
    """Where a page of hits begins, among candidates that stay the same however the library grows.

    Example:
        >>> Cursor.parse(str(Cursor(1, 40, 20)))
        Cursor(generation=1, newest=40, done=20)
    """

    generation: int
    newest: int  # the highest number of a video when the first page was made
    done: int  # hits on earlier pages

    def __str__(self) -> str:
        return f"{self.generation}-{self.newest}-{self.done}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Reads what `Hits.next` has."""
        parts = text.split("-")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
            raise LibraryError(f"{text!r}: is no page of hits; give the one that the page before names")
        return cls(*map(int, parts))
