"""Whether a long pause in a broadcast format is the joint of two recordings."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

from av.format import Flags
from av.video.stream import VideoStream

# Seconds. FFmpeg and players take a longer pause in a broadcast format for a joint.
_LONGEST_PAUSE = Fraction(10)
# Seconds. Where a playlist says that there are joints, shorter ones are, too.
_SHORT_PAUSE = Fraction(1, 2)

# Bytes of a packet of an MPEG transport stream (ISO/IEC 13818-1, 2.4.3), and how far back the one before is looked for.
_PACKET = 188
_LOOK_BACK = 1 << 20


class JointTest(NamedTuple):
    """After which pauses, in seconds, another recording may begin, and whether one begins at a place in the file."""

    pause: Fraction
    begins_at: Callable[[int | None], bool]


def choose_joint_test(stream: VideoStream, path: str | os.PathLike[str]) -> JointTest | None:
    """Chooses the test for the format of an open stream; None if its recordings do not begin with later clocks.

    A transport stream numbers its packets, and a recorder that really paused goes on counting. A playlist says itself
    whether it has joints.
    """
    container = stream.container
    if not container.format.flags & cast(int, Flags.ts_discont.value):
        return None
    if container.format.name == "hls":
        joined = "#EXT-X-DISCONTINUITY\n" in Path(path).read_text(errors="replace").replace("\r", "\n")
        return JointTest(_SHORT_PAUSE, lambda _: True) if joined else None
    if container.format.name == "mpegts":
        return JointTest(_LONGEST_PAUSE, lambda place: not goes_on_counting(path, place))
    return JointTest(_LONGEST_PAUSE, lambda _: True)


def goes_on_counting(path: str | os.PathLike[str], place: int | None) -> bool:
    """Whether the transport packet at ``place`` carries the number after that of the last one of its stream."""
    if place is None:
        return False
    begin = max(place - _LOOK_BACK // _PACKET * _PACKET, place % _PACKET)
    with Path(path).open("rb") as file:
        file.seek(begin)
        data = file.read(place - begin + _PACKET)
    packets = [data[i : i + _PACKET] for i in range(0, len(data) - _PACKET + 1, _PACKET)]
    if not packets or any(packet[0] != 0x47 for packet in packets[-2:]):
        return False  # another layout, such as that of Blu-ray discs
    *earlier, last = packets
    for packet in reversed(earlier):
        if packet[0] == 0x47 and _stream_number(packet) == _stream_number(last):
            return (packet[3] + 1) % 16 == last[3] % 16
    return False


def _stream_number(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]
