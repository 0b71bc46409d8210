"""Finds which packets must be decoded for given frames, before any is decoded.

Packets say by themselves whether decoding can begin at them, and whether others may need them. Containers say less, and
are sometimes wrong: they mark frames as key frames after which frames still need earlier ones.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from av.packet import Packet, PktSideDataT
from av.video.stream import VideoStream

from r2tuning.video.timeline import Timeline


class PacketFacts(NamedTuple):
    """What a packet says about itself."""

    entry: bool  # whether decoding can begin here; from here on, only leading packets need earlier ones
    leading: bool = False  # whether it follows an entry, but is shown before it and needs packets from before it
    reference: bool = True  # whether packets of its temporal layer, or of higher ones, may need it
    layer: int = 0  # its temporal layer; packets need none of higher layers
    parameters: bytes = b""  # the parameter sets it carries for later packets


FactsReader = Callable[[memoryview], "PacketFacts | None"]
"""Reads a packet; None if it is damaged, or holds something rare whose effects are not modeled here."""


def choose_facts_reader(codec: str, extradata: bytes | None) -> FactsReader | None:
    """Chooses the reader for a codec, given by FFmpeg's canonical name; None if the codec is not supported here.

    ``extradata``, the stream's header, says how packets are divided.
    """
    header = extradata or b""
    if codec == "h264":
        return partial(_read_h264, split=_choose_split(header, 4))
    if codec == "hevc":
        return partial(_read_hevc, split=_choose_split(header, 21))
    return {"vp9": _read_vp9, "av1": _read_av1}.get(codec)


_Split = Callable[[memoryview], Iterator[memoryview]]


def _choose_split(header: bytes, offset: int) -> _Split:
    """ISO/IEC 14496-15: a header that begins with 1 says at ``offset`` how many bytes the units' lengths have."""
    if len(header) > offset and header[0] == 1:
        return partial(_split_at_lengths, width=(header[offset] & 3) + 1)
    return _split_at_start_codes


def _split_at_lengths(data: memoryview, width: int) -> Iterator[memoryview]:
    position = 0
    while position < len(data):
        begin = position + width
        position = begin + int.from_bytes(data[position:begin], "big")
        yield data[begin:position] if position <= len(data) else data[:0]


def _split_at_start_codes(data: memoryview) -> Iterator[memoryview]:
    codes = [match.span() for match in re.finditer(rb"\x00\x00\x01", data)]
    ends = [*(begin for begin, _ in codes[1:]), len(data)]
    # Not strict: without a code there is no unit.
    for (_, begin), end in zip(codes, ends, strict=False):
        yield data[begin:end]


def _without_padding(unit: memoryview) -> bytes:
    return bytes(unit).rstrip(b"\0")  # the first byte of a four-byte start code ends the unit before


def _read_h264(data: memoryview, split: _Split) -> PacketFacts | None:
    """ITU-T H.264, 7.3.1 and Table 7-1. Pictures after an IDR picture neither need nor precede earlier ones."""
    entry = reference = sliced = False
    parameters = b""
    for unit in split(data):
        kind = unit[0] & 31 if unit else 0
        if kind in (1, 5):  # slices; 5 of an IDR picture
            sliced = True
            entry |= kind == 5
            reference |= unit[0] & 0x60 != 0
        elif kind in (7, 8):
            parameters += _without_padding(unit)
        elif kind not in (6, 9, 12):  # side information, delimiter, filler
            return None
    return PacketFacts(entry, reference=reference, parameters=parameters) if sliced else None


def _read_hevc(data: memoryview, split: _Split) -> PacketFacts | None:
    """ITU-T H.265, 7.3.1.2 and Table 7-1; trailing and RADL pictures need nothing before their IRAP picture (8.3.2)."""
    entry = leading = reference = sliced = False
    layer = 0
    parameters = b""
    for unit in split(data):
        if len(unit) < 3 or not unit[1] & 7:
            return None
        kind = unit[0] >> 1 & 63
        if unit[0] & 1 or unit[1] >> 3:  # of another view or quality, which FFmpeg ignores
            continue
        if kind <= 9 or 19 <= kind <= 21:
            sliced = True
            layer = (unit[1] & 7) - 1
            leading |= kind in (8, 9)  # RASL
            reference |= kind > 9 or kind % 2 == 1
            entry |= kind > 9  # IDR and CRA
            if kind > 9 and unit[2] & 0x40:  # tells decoders to drop pictures not shown yet
                return None
        elif kind in (32, 33, 34):
            parameters += _without_padding(unit)
        elif kind not in (35, 38, 39, 40) and kind < 48:  # delimiter, filler, side information, unspecified
            return None
    return PacketFacts(entry, leading, reference, layer, parameters) if sliced else None


def _read_vp9(data: memoryview) -> PacketFacts | None:
    """VP9 bitstream specification, 6.2 and Annex B. A key frame resets all state."""
    if len(data) < 2 or data[0] >> 6 != 2:
        return None
    profile = data[0] >> 5 & 1 | data[0] >> 3 & 2
    flags = int.from_bytes(data[:2], "big") << (4 + (profile == 3)) & 0xFFFF
    repeats, inter, shown = flags >> 15 & 1, flags >> 14 & 1, flags >> 13 & 1
    joined = data[-1] >> 5 == 6  # hidden frames come in one packet with the one that is shown
    if not (repeats or shown or joined):
        return None
    return PacketFacts(entry=not repeats and not inter)


def _read_av1(data: memoryview) -> PacketFacts | None:
    """AV1 bitstream specification, 5.3 and 5.9.2. A shown key frame resets all state."""
    entry: bool | None = None
    parameters = b""
    position = 0
    while position < len(data):
        kind, extended, sized = data[position] >> 3 & 15, data[position] >> 2 & 1, data[position] & 2
        position += 1 + extended
        size = len(data) - position
        if sized:
            size = shift = 0
            more = True
            while more:
                if position >= len(data) or shift > 28:
                    return None
                size |= (data[position] & 127) << shift
                more = data[position] > 127
                shift += 7
                position += 1
        unit = data[position : position + size]
        position += size
        if kind == 1:
            parameters += bytes(unit)
        elif kind in (3, 6) and entry is None:  # the header of the first frame
            if not unit:
                return None
            entry = unit[0] >> 4 == 1  # not a repeat, of type key, shown
    return None if entry is None or position != len(data) else PacketFacts(entry, parameters=parameters)


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
