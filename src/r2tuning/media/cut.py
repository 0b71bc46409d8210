"""One span of a video as a file of its own."""

from __future__ import annotations

import os

from r2tuning.errors import VideoError
from r2tuning.media.copying import copy_stretch
from r2tuning.media.footage import Footage
from r2tuning.media.mp4 import write_stretches
from r2tuning.media.whole import write_whole


def cut(
    video: str | Footage,
    start: float,
    end: float,
    target: str | os.PathLike[str],
    exact: bool = True,
    *,
    force: bool = False,
) -> float:
    """Cuts a span out of a video, with its sound, into an MP4 file; subtitles are left out.

    Args:
        video: The file; as :class:`Footage` where more than one span is cut, which spares reading it each time.
        start: Seconds on the player's clock.
        end: Seconds on the player's clock.
        target: The file to write.
        exact: Whether the clip holds the frames that come on in ``[start, end)`` and no other, encoded anew. Otherwise
            what is stored is copied, which is fast and loses nothing, but begins at the key frame at or before
            ``start`` and may end a few frames later.
        force: Whether an existing file may be replaced.

    Returns:
        Where the clip really begins, in seconds on the player's clock of the video.

    Raises:
        OutputError: The file may not or cannot be written.
        ValueError: The span does not end after it starts.
        VideoError: The video cannot be read, shows nothing in the span, or cannot be copied into MP4.
    """
    footage = video if isinstance(video, Footage) else Footage(video)
    stretch = footage.find(start, end)
    with write_whole(target, force=force) as file:
        if exact:
            write_stretches(footage, [stretch], file)
        else:
            if not footage.stamped:
                raise VideoError(
                    f"{footage.info.path} does not say when its frames are shown; cut it exactly, without --fast"
                )
            stretch = footage.extend_to_key_frame(stretch)
            copy_stretch(footage, stretch, file)
    return footage.find_time(stretch.begin)
