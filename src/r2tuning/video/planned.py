"""Frames at a fixed rate where the packets tell beforehand which ones these will be."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import chain, islice
from typing import TypeVar

import numpy as np
from av.video.frame import VideoFrame

from r2tuning.video.index import PacketIndex
from r2tuning.video.parallel import decode_groups
from r2tuning.video.pick import count_clips, pick_cheap, pick_last_before
from r2tuning.video.probe import Survey
from r2tuning.video.timeline import Timeline

Result = TypeVar("Result")


def plan_ticks(timeline: Timeline, index: PacketIndex, fps: Fraction, *, cheap: bool) -> np.ndarray:
    """Finds which frame stands for each clip, from the timestamps of packets.

    Args:
        timeline: When frames are shown.
        index: The packets.
        fps: Clips per second.
        cheap: Whether to pick as :func:`pick_cheap` does, else as :func:`pick_last_before`.

    Returns:
        int64 ``[T]``, the ticks at which they are shown, ascending; one may stand for several clips.
    """

    def timed(ticks: np.ndarray) -> Iterator[tuple[Fraction, int]]:
        first = int(timeline.ticks[0])
        return (((tick - first) * timeline.time_base, tick) for tick in ticks.tolist())

    if cheap:
        keys, references = np.sort(index.ticks[index.entries]), np.sort(index.ticks[~index.droppable])
        picks = pick_cheap(timed(keys), timed(references), fps)
    else:
        picks = pick_last_before(timed(timeline.ticks), fps)
    count = count_clips(timeline.duration, fps)
    return np.fromiter((tick for _, tick in islice(picks, count)), dtype=np.int64, count=count)


def decode_picks(
    survey: Survey,
    index: PacketIndex,
    fps: Fraction,
    make_convert: Callable[[], Callable[[VideoFrame], Result]],
    *,
    cheap: bool,
    threads: int | None = None,
) -> Generator[tuple[Fraction, Result], None, None]:
    """Decodes the frames that stand for each clip, and as few others as possible.

    Args:
        survey: Facts about the file.
        index: Its packets.
        fps: Clips per second.
        make_convert: Makes what is called with each frame picked; every thread has its own.
        cheap: As for :func:`plan_ticks`.
        threads: Most threads; None for one per core that this process may use.

    Yields:
        For each clip, when its frame is shown in seconds since the first one, and what it was converted to.

    Raises:
        DecodingError: At the first sign that decoding all packets in order might give other frames. What was yielded
            until then stands.
        VideoError: The file cannot be opened any more.
    """
    timeline = survey.timeline
    ticks = plan_ticks(timeline, index, fps, cheap=cheap)
    # The last frame of all shows whether the file is whole.
    groups = index.group(np.unique(np.append(ticks, timeline.ticks[-1])))
    counts = dict(zip(*(column.tolist() for column in np.unique(ticks, return_counts=True)), strict=True))
    first = int(timeline.ticks[0])
    with closing(decode_groups(survey.info.path, index, groups, make_convert, threads)) as shown:
        held: tuple[int, Result] | None = None
        # Each is held back until a later one has been decoded: only then is it certain that the video goes on.
        for following in chain(shown, (None,)):
            if held is not None:
                tick, result = held
                for _ in range(counts.get(tick, 0)):
                    yield (tick - first) * timeline.time_base, result
            held = following
