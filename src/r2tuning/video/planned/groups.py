"""Frames at a fixed rate where the packets tell beforehand which ones these will be."""

from __future__ import annotations

import os
import sys
from collections import defaultdict, deque
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
from r2tuning.video.planned.bitstream import codes_in_wavefronts
from r2tuning.video.planned.index import Group, PacketIndex
from r2tuning.video.probe import Survey
from r2tuning.video.selection import count_clips, pick_cheap, pick_last_before
from r2tuning.video.timeline import Timeline

# How far decoding runs ahead of whoever takes the results: it bounds the memory they wait in.
_GROUPS_AHEAD = 2  # per thread
_RESULTS_AHEAD = 32  # per group

# Bytes. A group whose packets take more is not collected for a thread: one decodes all as they are read.
_LARGEST_GROUP = 32 << 20

Result = TypeVar("Result")


class DecodingError(Exception):
    """The packets do not decode as the index promises: the file is damaged, or was changed meanwhile."""


def decode_groups(
    path: str | os.PathLike[str],
    index: PacketIndex,
    groups: Sequence[Group],
    make_convert: Callable[[], Callable[[VideoFrame], Result]],
    threads: int | None = None,
) -> Generator[tuple[int, Result], None, None]:
    """Decodes groups and converts the frames wanted of them; memory does not grow with the video.

    Args:
        path: The file.
        index: Its packets.
        groups: In the order they are shown, at least one.
        make_convert: Makes what is called with each frame wanted; every thread has its own.
        threads: Most threads; None for one per core that this process may use.

    Yields:
        When a frame is shown, as in :attr:`Group.ticks`, and what it was converted to. Closing the generator ends
        the threads.

    Raises:
        DecodingError: At the first sign that decoding all packets in order might give other frames.
        VideoError: The file cannot be opened any more.
    """
    cores = threads or count_cores()
    light = max(int(index.sizes[group.packets].sum()) for group in groups) <= _LARGEST_GROUP
    size = min(cores, len(groups)) if light else 1
    with open_video(path) as stream:
        crew: _Crew[Result] = _Crew(_Dealer(stream, index, groups), size, share_cores(len(groups), size, cores))
        members = [Thread(target=crew.work, args=(path, make_convert), daemon=True) for _ in range(size)]
        try:
            for member in members:
                member.start()
            yield from crew.take(len(groups))
        finally:
            crew.stop()
            for member in members:
                if member.ident is not None:  # it could be started
                    member.join()


def count_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_cores(groups: int, size: int, cores: int) -> list[int]:
    """Finds with how many threads each group's own decoder works.

    Where the last round has fewer groups than there are threads, these would leave cores idle.

    Args:
        groups: How many there are.
        size: Groups decoded at once, up to ``cores``.
        cores: Threads in all.

    Returns:
        As many numbers as groups.

    Example:
        >>> share_cores(5, 2, 2), share_cores(1, 1, 4)
        ([1, 1, 1, 1, 2], [4])
    """
    last = groups % size
    return [cores // size] * (groups - last) + [cores // last] * last if last else [cores // size] * groups


class _Dealer:
    """Reads a stream once, and divides its packets among groups in turn."""

    def __init__(self, stream: VideoStream, index: PacketIndex, groups: Sequence[Group]) -> None:
        self._ticks = index.ticks
        self._groups = groups
        self._numbered = enumerate(read_packets(stream))
        self._shared: list[tuple[int, Packet[VideoStream]]] = []

    def deal(self) -> Iterator[tuple[Group, Iterable[Packet[VideoStream]]]]:
        """Yields each group with its packets, which must be used up before the next group is asked for."""
        for group, following in zip(self._groups, [*self._groups[1:], None], strict=True):
            yield group, self._deal(group, int(following.packets[0]) if following else len(self._ticks))

    def _deal(self, group: Group, following: int) -> Iterator[Packet[VideoStream]]:
        """Yields the packets of a group, and keeps those from the next group's first on, which both may need."""
        earlier, self._shared = self._shared, []
        due = 0
        for number, packet in chain(earlier, self._numbered):
            if packet.pts != self._ticks[number]:
                raise DecodingError
            if number >= following:
                self._shared.append((number, packet))
            if number == group.packets[due]:
                yield packet
                due += 1
                if due == len(group.packets):
                    return


class _Job(NamedTuple):
    """A group to decode, and with how many threads."""

    number: int
    group: Group
    packets: Iterable[Packet[VideoStream]]
    threads: int


class _Crew(Generic[Result]):
    """What threads that decode share with whoever takes the results."""

    def __init__(self, dealer: _Dealer, size: int, shares: Sequence[int]) -> None:
        self._size = size
        self._shares = shares
        self._jobs = dealer.deal()
        self._dealing = Lock()
        self._dealt = 0
        # All below is guarded by this, and whoever changes it tells.
        self._changed = Condition()
        self._results: defaultdict[int, deque[tuple[int, Result]]] = defaultdict(deque)
        self._done: set[int] = set()
        self._turn = 0  # the group whose results are being taken
        self._error: BaseException | None = None
        self._stopped = False

    def work(self, path: str | os.PathLike[str], make_convert: Callable[[], Callable[[VideoFrame], Result]]) -> None:
        """Decodes group after group until there are no more; runs in a thread."""
        try:
            convert = make_convert()
            for threads, jobs in groupby(iter(self._next_job, None), key=attrgetter("threads")):
                # Opened anew, because that is how a decoder learns all that the file's header says.
                with open_video(path) as stream:
                    decoder = stream.codec_context
                    # Pictures of a group are a chain, so that its decoder gains more from rows side by side.
                    rows = codes_in_wavefronts(decoder.codec.canonical_name, decoder.extradata)
                    decoder.thread_count, decoder.thread_type = threads, "SLICE" if rows else "AUTO"
                    for job in jobs:
                        for result in _decode_group(decoder, job.group, job.packets, convert):
                            if not self._put(job.number, result):
                                return
                        with self._changed:
                            self._done.add(job.number)
                            self._changed.notify_all()
        except BaseException as error:  # nobody sees what a thread raises, so it is raised where results are taken
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def take(self, groups: int) -> Iterator[tuple[int, Result]]:
        """Yields the results of as many groups, in order."""
        while self._turn < groups:
            with self._changed:
                self._changed.wait_for(lambda: self._results[self._turn] or self._turn in self._done or self._error)
                results = self._results[self._turn]
                result = results.popleft() if results else None
                if result is None and self._turn in self._done:
                    del self._results[self._turn]
                    self._done.remove(self._turn)
                    self._turn += 1
                elif result is None and self._error is not None:
                    raise self._error
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
                self._changed.wait_for(lambda: self._stopped or self._dealt <= self._turn + ahead)
                if self._stopped:
                    return None
            job = next(self._jobs, None)
            if job is None:
                return None
            group, packets = job
            number, self._dealt = self._dealt, self._dealt + 1
            # One thread alone need not collect them.
            return _Job(number, group, packets if self._size == 1 else list(packets), self._shares[number])

    def _put(self, number: int, result: tuple[int, Result]) -> bool:
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
    due = 0
    shown: int | None = None
    for packet in chain(packets, (None,)):  # None fetches what the decoder still holds back
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
