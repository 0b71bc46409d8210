"""Makes ``sample.mp4`` and ``sample.jsonl``, the video and the queries of ``demo.py``, always the same ones.

Usage: python examples/make_sample.py
"""

from pathlib import Path

from r2tuning.files import write_atomically
from r2tuning.synthetic import describe, make_video, write_video
from r2tuning.synthetic.queries import to_line

SEED = 34
"""Of the test split, which training never sees. One of those, among its first 80 videos, that are short and of which
the model answers these queries well; with others it can fail (docs/moving-shapes.md says how often), as with the one of
this video about a corner.
"""

QUERIES = (2, 4, 0)
"""Which of the video's queries: a look, an action, and an action in other words."""

FOLDER = Path(__file__).resolve().parent


def make_sample(folder: Path = FOLDER) -> tuple[Path, Path]:
    """Writes the video and its queries in QVHighlights' format; returns the two files."""
    script = make_video(SEED, "test")
    queries = describe(script)
    video, annotations = folder / "sample.mp4", folder / "sample.jsonl"
    write_video(script, video)
    write_atomically(annotations, "".join(to_line(queries[number]) for number in QUERIES), force=True)
    return video, annotations


if __name__ == "__main__":
    print(*make_sample(), sep="\n")
