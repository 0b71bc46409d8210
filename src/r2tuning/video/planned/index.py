"""Finds which packets must be decoded for given frames, before any is decoded."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from av.packet import Packet, PktSideDataT
from av.video.stream import VideoStream

from r2tuning.video.planned.bitstream import choose_facts_reader
from r2tuning.video.timeline import Timeline

# Changes of the stream's header midway, for all later packets.
_CHANGES: tuple[PktSideDataT, ...] = ("new_extradata", "param_change", "palette")

_ENTRY, _LEADING, _REFERENCE = 1, 2, 4


@dataclass(frozen=True)
class Group:
    """Packets that a fresh decoder can decode, and which of their frames are wanted."""

    packets: np.ndarray  # int64 [n], numbers of the packets to decode, ascending; those between them are skipped
    ticks: np.ndarray  # int64 [m], when the wanted frames are shown, ascending


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a stream, one frame each, in file order, which is decoding order. All arrays are ``[n]``."""

    ticks: np.ndarray  # int64, when the frame is shown, in units of the stream's time base
    sizes: np.ndarray  # int64, bytes
    entries: np.ndarray  # bool, whether decoding can begin here
    leading: np.ndarray  # bool, whether it follows an entry but needs packets from before it
    droppable: np.ndarray  # bool, whether no other packet needs it

    def group(self, ticks: np.ndarray) -> list[Group]:
        """Finds what to decode for the frames shown at ``ticks``, ascending without repeats, in display order.

        A packet may be in two successive groups.
        """
        order = np.argsort(self.ticks)
        wanted = order[np.searchsorted(self.ticks, ticks, sorter=order)]
        starts = np.flatnonzero(self.entries)
        owners = self.number_groups() - self.leading
        groups = []
        for number in np.unique(owners[wanted]).tolist():
            numbers = wanted[owners[wanted] == number]
            span = slice(int(starts[number]), int(numbers.max()) + 1)
            kept = ~self.droppable[span]
            kept[numbers - span.start] = True
            kept &= owners[span] >= number  # leading packets belong to the group before
            groups.append(Group(np.flatnonzero(kept) + span.start, self.ticks[numbers]))
        return groups

    def number_groups(self) -> np.ndarray:
        """int64 ``[n]``, the number of the last entry at or before each packet."""
        return np.cumsum(self.entries) - 1


class PacketIndexer:
    """Records the packets of an open stream as they are read."""

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self._read = choose_facts_reader(context.codec.canonical_name, context.extradata)
        if context.pix_fmt is not None and "444" in context.pix_fmt:
            self._read = None  # old x264 coded 4:4:4 in its own way, of which only the first packet tells
        self._depth = context.reorder_depth
        self._ticks, self._sizes, self._kinds, self._layers = array("q"), array("q"), array("B"), array("B")
        self._entry_parameters: set[bytes] = set()

    def watch(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """Passes packets on, and records them until one is not understood."""
        for packet in packets:
            if self._read is not None and not self._record(packet):
                self._read = None
            yield packet

    def finish(self, timeline: Timeline) -> PacketIndex | None:
        """Builds the index from the timeline of all packets.

        Returns None if the packets do not tell for certain which frames they become, or which packets they need.
        """
        if self._read is None or not timeline.stamped or timeline.lost or len(timeline.ticks) != len(self._ticks):
            return None
        if timeline.clock is not None:  # recordings that were joined may have different headers
            return None
        kinds, layers = np.array(self._kinds), np.array(self._layers)
        index = PacketIndex(
            ticks=np.array(self._ticks, dtype=np.int64),
            sizes=np.array(self._sizes, dtype=np.int64),
            entries=kinds & _ENTRY > 0,
            leading=kinds & _LEADING > 0,
            droppable=(kinds & _REFERENCE == 0) & (layers == layers.max()),
        )
        sound = (
            index.entries[0]
            and len(self._entry_parameters) == 1
            and comes_out_in_order(self._ticks, self._depth)
            and _is_separable(index)
        )
        return index if sound else None

    def _record(self, packet: Packet[VideoStream]) -> bool:
        # Most packets have no side data at all, which is quicker to check than each kind.
        changes_header = any(any(map(packet.has_sidedata, _CHANGES)) for _ in packet.iter_sidedata())
        if packet.pts is None or packet.is_discard or packet.is_corrupt or changes_header:
            return False
        facts = self._read(memoryview(packet)) if self._read is not None else None
        if facts is None:
            return False
        if facts.entry:
            self._entry_parameters.add(facts.parameters)
        elif facts.parameters:  # a decoder that begins after them would miss them
            return False
        self._ticks.append(packet.pts)
        self._sizes.append(packet.size)
        self._kinds.append(_ENTRY * facts.entry | _LEADING * facts.leading | _REFERENCE * facts.reference)
        self._layers.append(facts.layer)
        return True


def comes_out_in_order(ticks: Iterable[int], depth: int) -> bool:
    """Whether a decoder that holds back ``depth`` frames can show all of them in order.

    Otherwise it drops frames, and which ones depends on where it began.

    Example:
        >>> comes_out_in_order([0, 3, 1, 2], 1), comes_out_in_order([0, 3, 1, 2], 0)
        (True, False)
    """
    held: list[int] = []
    last: int | None = None
    for tick in ticks:
        heappush(held, tick)
        if len(held) > depth:
            shown = heappop(held)
            if last is not None and shown < last:
                return False
            last = shown
    return True


def _is_separable(index: PacketIndex) -> bool:
    """Whether groups are shown one after the other, and leading packets need the group before their entry at most."""
    numbers = index.number_groups()
    owners = numbers - index.leading
    if (np.diff(owners[np.argsort(index.ticks)]) < 0).any() or owners.min() < 0:
        return False
    # The first picture that follows an entry and is shown after it ends what came before the entry.
    trailing = ~index.leading & (index.ticks > index.ticks[np.flatnonzero(index.entries)][numbers])
    return bool(np.isin(owners[index.leading], numbers[trailing]).all())
