"""What is known of a video: its queries with their moments and ratings, also as lines of QVHighlights' format."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from r2tuning.datasets.annotations import Annotation
from r2tuning.synthetic.motion import track_script
from r2tuning.synthetic.queries import Query, choose_absent_queries, choose_queries
from r2tuning.synthetic.ratings import rate_clips
from r2tuning.synthetic.script import Script


def describe(script: Script) -> list[Annotation]:
    """Queries with one to three moments in the video.

    Returns:
        ``moments`` are exact to the frame, ``saliency`` is ``[clips, 3]`` in 0 to 4 for clips of 2 s.
    """
    return _annotate(script, choose_queries(script), "")


def describe_absent(script: Script) -> list[Annotation]:
    """Queries that are true of no moment of the video: ``moments`` are empty, and ``saliency`` is 0 everywhere."""
    return _annotate(script, choose_absent_queries(script, choose_queries(script)), "absent-")


def _annotate(script: Script, queries: Sequence[Query], mark: str) -> list[Annotation]:
    scenes = track_script(script)
    return [
        Annotation(
            qid=f"{script.vid}-{mark}{number}",
            vid=script.vid,
            query=query.text,
            duration=script.duration,
            moments=query.windows,
            saliency=rate_clips(query.meaning, scenes),
        )
        for number, query in enumerate(queries)
    ]


def to_line(annotation: Annotation) -> str:
    """An annotation as a line of a file in QVHighlights' format.

    Raises:
        ValueError: If it has no ratings.

    Example:
        >>> ratings = np.array([[0.0, 0, 0], [2, 3, 4]])
        >>> print(to_line(Annotation("a-0", "a", "the sea", 4.0, ((1.9, 4.0),), ratings)), end="")
        {"qid": "a-0", "query": "the sea", "duration": 4, "vid": "a", "relevant_windows": [[1.9, 4.0]], \
"relevant_clip_ids": [1], "saliency_scores": [[2, 3, 4]]}
    """
    if annotation.saliency is None or annotation.duration is None:
        raise ValueError(f"query {annotation.qid!r} has no ratings or no duration, which the format needs")
    clips = np.flatnonzero(annotation.saliency.any(axis=1))
    entry = {
        "qid": annotation.qid,
        "query": annotation.query,
        "duration": int(annotation.duration),
        "vid": annotation.vid,
        "relevant_windows": annotation.moments,
        "relevant_clip_ids": clips.tolist(),
        "saliency_scores": annotation.saliency[clips].astype(int).tolist(),
    }
    return json.dumps(entry) + "\n"
