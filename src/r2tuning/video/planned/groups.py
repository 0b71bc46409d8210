"""Decodes only the packets that the sampled frames need, one group of pictures per thread."""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import chain, groupby, islice
from operator import attrgetter
from threading import Condition, Lock, Thread
from typing import Generic, NamedTuple, TypeVar

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from r2tuning.video.container import open_video, read_packets
from r2tuning.video.planned.index import Group, PacketIndex
from r2tuning.video.probe import Survey
from r2tuning.video.selection import count_clips, pick_cheap, pick_frames
from r2tuning.video.timeline import Timeline

# How far decoding runs ahead of the caller: it bounds the memory that results and packets take.
_GROUPS_AHEAD = 2  # per thread
_RESULTS_AHEAD = 32  # per group

# Bytes. Packets of larger groups are not collected for threads: one thread decodes them as they are read.
_LARGEST_GROUP = 32 << 20

Result = TypeVar("Result")
MakeConvert = Callable[[], Callable[[VideoFrame], Result]]


class _Job(NamedTuple):
    number: int
    group: Group
    packets: Iterable[Packet[VideoStream]]
    threads: int  # for its decoder


class DecodingError(Exception):
    """The packets do not decode as the index promises: the file is damaged, or was changed meanwhile."""


def decode_picks(
    survey: Survey, fps: Fraction, make_convert: MakeConvert[Result], cheap: bool, threads: int | None = None
) -> Generator[tuple[Fraction, Result], None, None]:
    """Decodes the frame that is sampled for each interval, and as few others as possible.

    For each interval of 1/``fps`` seconds, yields when its frame is shown, in seconds since the first one, and the
    frame converted. Each thread makes its own converter with ``make_convert``. `pick_cheap` picks the frames if
    ``cheap``, else `pick_frames`. If ``threads`` is None, there is one for each core that this process may use.

    Raises `DecodingError` at the first sign that decoding all packets in order might give other frames. What was
    yielded until then stands.
    """
    timeline, index = survey.timeline, survey.index
    assert index is not None
    ticks = _plan_ticks(timeline, index, fps, cheap)
    # The last frame of all shows whether the file is whole.
    groups = index.group(np.unique(np.append(ticks, timeline.ticks[-1])))
    counts = Counter(ticks.tolist())
    first = int(timeline.ticks[0])
    with closing(decode_groups(survey.info.path, index, groups, make_convert, threads)) as shown:
        held: tuple[int, Result] | None = None
        # A result is held back until a later one has been decoded: only then is it certain that the video goes on.
        for following in chain(shown, (None,)):
            if held is not None:
                tick, result = held
                for _ in range(counts[tick]):
                    yield (tick - first) * timeline.time_base, result
            held = following


def decode_groups(
    path: str,
    index: PacketIndex,
    groups: Sequence[Group],
    make_convert: MakeConvert[Result],
    threads: int | None = None,
) -> Generator[tuple[int, Result], None, None]:
    """Decodes groups, given in display order, and converts their wanted frames, in constant memory.

    Yields when a frame is shown, as in :attr:`Group.ticks`, and the frame converted. Arguments and errors are those of
    `decode_picks`. Closing the generator ends the threads.
    """
    cores = threads or count_cores()
    light = max(int(index.sizes[group.packets].sum()) for group in groups) <= _LARGEST_GROUP
    size = min(cores, len(groups)) if light else 1
    with open_video(path) as stream:
        jobs = _deal_packets(stream, index, groups, share_cores(len(groups), size, cores))
        crew: _Crew[Result] = _Crew(jobs, size)
        members: list[Thread] = []
        try:
            for _ in range(size):
                member = Thread(target=crew.work, args=(path, make_convert), daemon=True)
                member.start()
                members.append(member)
            yield from crew.take_results(len(groups))
        finally:
            crew.stop()
            for member in members:
                member.join()


def count_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_cores(groups: int, size: int, cores: int) -> list[int]:
    """Finds how many threads each group's decoder may use, if ``size`` groups (at most ``cores``) are decoded at once.

    When fewer groups are left than are decoded at once, they share the idle cores.

    Example:
        >>> share_cores(5, 2, 2), share_cores(1, 1, 4)
        ([1, 1, 1, 1, 2], [4])
    """
    last = groups % size
    return [cores // size] * (groups - last) + [cores // last] * last if last else [cores // size] * groups


def _plan_ticks(timeline: Timeline, index: PacketIndex, fps: Fraction, cheap: bool) -> np.ndarray:
    """Picks a frame for each interval: int64 ``[T]``, when they are shown, ascending, with repeats."""

    def timed(ticks: np.ndarray) -> Iterator[tuple[Fraction, int]]:
        first = int(timeline.ticks[0])
        return (((tick - first) * timeline.time_base, tick) for tick in ticks.tolist())

    if cheap:
        keys, references = np.sort(index.ticks[index.entries]), np.sort(index.ticks[~index.droppable])
        picks = pick_cheap(timed(keys), timed(references), fps)
    else:
        picks = pick_frames(timed(timeline.ticks), fps)
    count = count_clips(timeline.duration, fps)
    return np.fromiter((tick for _, tick in islice(picks, count)), dtype=np.int64, count=count)


def _deal_packets(
    stream: VideoStream, index: PacketIndex, groups: Sequence[Group], shares: Sequence[int]
) -> Iterator[_Job]:
    """Reads a stream once; the packets of each job must be used up before the next job is taken."""
    numbered = enumerate(read_packets(stream))
    shared: list[tuple[int, Packet[VideoStream]]] = []  # those that two groups may need

    def read_group(group: Group, next_begin: int) -> Iterator[Packet[VideoStream]]:
        earlier = shared.copy()
        shared.clear()
        due = 0
        for number, packet in chain(earlier, numbered):
            if packet.pts != index.ticks[number]:
                raise DecodingError
            if number >= next_begin:
                shared.append((number, packet))
            if number == group.packets[due]:
                yield packet
                due += 1
                if due == len(group.packets):
                    return

    begins = [*(int(group.packets[0]) for group in groups[1:]), len(index.ticks)]
    for number, (group, next_begin, threads) in enumerate(zip(groups, begins, shares, strict=True)):
        yield _Job(number, group, read_group(group, next_begin), threads)


class _Crew(Generic[Result]):
    """``size`` threads that decode groups, and the results that are not taken yet."""

    def __init__(self, jobs: Iterator[_Job], size: int) -> None:
        self._jobs, self._size = jobs, size
        self._dealing = Lock()
        self._started = 0
        # Guards all below; every change of it is notified.
        self._changed = Condition()
        self._results: defaultdict[int, deque[tuple[int, Result] | None]] = defaultdict(deque)  # None ends a group
        self._turn = 0  # the group whose results are being taken
        self._error: BaseException | None = None
        self._stopped = False

    def work(self, path: str, make_convert: MakeConvert[Result]) -> None:
        """Decodes group after group until there are no more; runs in a thread."""
        try:
            convert = make_convert()
            for threads, jobs in groupby(iter(self._next_job, None), key=attrgetter("threads")):
                # Only opening the file gives a decoder all that the file's header says.
                with open_video(path) as stream:
                    decoder = stream.codec_context
                    decoder.thread_count, decoder.thread_type = threads, "AUTO"
                    for job in jobs:
                        for result in chain(_decode_group(decoder, job.group, job.packets, convert), (None,)):
                            if not self._put(job.number, result):
                                return
        except BaseException as error:  # nobody sees what a thread raises, so `take_results` raises it
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def take_results(self, groups: int) -> Iterator[tuple[int, Result]]:
        """Yields the results of ``groups`` groups, in order."""
        while self._turn < groups:
            with self._changed:
                self._changed.wait_for(lambda: self._results[self._turn] or self._error)
                if not self._results[self._turn] and self._error is not None:
                    raise self._error
                result = self._results[self._turn].popleft()
                if result is None:
                    del self._results[self._turn]
                    self._turn += 1
                self._changed.notify_all()
            if result is not None:
                yield result

    def stop(self) -> None:
        """Makes every thread end after the packet that it is decoding."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _next_job(self) -> _Job | None:
        with self._dealing:
            with self._changed:
                ahead = _GROUPS_AHEAD * self._size
                self._changed.wait_for(lambda: self._stopped or self._started <= self._turn + ahead)
                if self._stopped:
                    return None
            job = next(self._jobs, None)
            if job is None:
                return None
            self._started += 1
            # A single thread can decode packets as they are read.
            return job if self._size == 1 else job._replace(packets=list(job.packets))

    def _put(self, number: int, result: tuple[int, Result] | None) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._results[number]) < _RESULTS_AHEAD)
            if not self._stopped:
                self._results[number].append(result)
                self._changed.notify_all()
            return not self._stopped


def _decode_group(
    decoder: VideoCodecContext,
    group: Group,
    packets: Iterable[Packet[VideoStream]],
    convert: Callable[[VideoFrame], Result],
) -> Iterator[tuple[int, Result]]:
    """Yields the wanted frames of a group, converted, with the ticks at which they are shown."""
    due = 0
    shown: int | None = None
    for packet in chain(packets, (None,)):  # None flushes the decoder
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError as error:
            raise DecodingError from error
        for frame in frames:
            if frame.pts is None or frame.is_corrupt or (shown is not None and frame.pts <= shown):
                raise DecodingError
            shown = frame.pts
            if due < len(group.ticks) and shown == group.ticks[due]:
                due += 1
                yield shown, convert(frame)
    if due < len(group.ticks):
        raise DecodingError
    decoder.flush_buffers()
