"""Reads from a coded packet whether decoding can begin at it, and whether other packets may need it.

Containers say less, and are sometimes wrong: they mark frames as key frames after which frames still need earlier ones.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple


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
