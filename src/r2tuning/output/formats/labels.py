"""What a moment is called in subtitles, chapters and clips."""

from __future__ import annotations

from r2tuning.output.line import show_on_one_line
from r2tuning.types import Moment


def label_moment(query: str, moment: Moment) -> str:
    r"""Names a moment by its query and score, on one line that can be encoded as UTF-8.

    Examples:
        >>> label_moment("a dog\nruns", Moment(2.0, 6.0, 0.875))
        'a dog runs (0.88)'
    """
    return f"{show_on_one_line(query)} ({moment.score:.2f})".lstrip()
