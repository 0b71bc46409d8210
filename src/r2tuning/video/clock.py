"""Repairs the clock of a stream: recordings joined into one file, and single timestamps that are far off.

Packets carry two times: the DTS, at which they are decoded, rises from packet to packet; the PTS, at which their frame
is shown, stays close to it. What breaks this pattern is found by comparing the two with each other and with their
neighbors, and moved to where a player shows it. Frames that really come hours apart stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

# How many jumps are looked at to find where damaged times begin or end, and how many frames the clock may be off then.
_FEW = 8
# The largest share of packets with damaged times at which the others still tell what is right.
_DAMAGED_SHARE = 0.1
# H.264 and HEVC hold back 16 frames at most. The first frame shown of a recording is among its first packets.
_DEEPEST = 16


class Stamps(NamedTuple):
    """Times of the packets of a stream, in file order, as read; all in ticks, ``[n]``."""

    shown: list[int | None]  # PTS
    decoded: list[int | None]  # DTS
    lengths: list[int]  # 0 if unknown
    keys: list[bool]


@dataclass(frozen=True)
class Clock:
    """Corrected times of all packets of a stream, in file order.

    Joined recordings and damaged times make stored times ambiguous, so packets are identified by their number.
    """

    shown: np.ndarray  # int64 [n], PTS
    decoded: np.ndarray  # int64 [n], DTS
    starts: tuple[int, ...]  # numbers of the packets at which another recording begins

    def apply(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """Corrects the times of packets, which must begin with the first of the file."""
        for number, packet in enumerate(packets):
            if number < len(self.shown):
                packet.pts, packet.dts = int(self.shown[number]), int(self.decoded[number])
            yield packet


def find_clock(
    stamps: Stamps, depth: int, modulus: int = 0, pause: float = 0, is_joint: Callable[[int], bool] | None = None
) -> Clock | None:
    """Finds the corrected clock; None if the times are sound as they are.

    Args:
        stamps: The times as read.
        depth: How many frames the decoder holds back to bring them into order.
        modulus: The number of ticks after which stored times start again at zero; 0 if never.
        pause: The longest time between two packets, in ticks, after which another recording may begin.
        is_joint: For formats in which recordings are joined with later clocks too: whether one begins after a longer
            pause, given the number of the packet.

    Example:
        >>> times = [0, 10, 20, 30, 0, 10, 20, 30]
        >>> find_clock(Stamps(times, times, [10] * 8, [True, False, False, False] * 2), depth=0).shown
        array([ 0, 10, 20, 30, 40, 50, 60, 70])
    """
    known = [number for number, time in enumerate(stamps.decoded) if time is not None]
    if len(known) < 2:
        return None
    times = np.array([stamps.decoded[number] for number in known], dtype=np.int64)
    rises = _wrap(np.diff(times), modulus)
    if not (rises > 0).any():
        return None
    step = int(np.median(rises[rises > 0]))
    numbers = np.arange(len(stamps.decoded))
    decoded = np.interp(numbers, known, times[0] + np.concatenate([[0], np.cumsum(rises)])).round().astype(np.int64)
    decoded[: known[0]] -= step * np.arange(known[0], 0, -1)
    decoded[known[-1] + 1 :] += step * np.arange(1, len(numbers) - known[-1])
    shown = np.array([time or 0 for time in stamps.shown], dtype=np.int64)
    untimed = np.array([time is None for time in stamps.shown])
    delays = np.where(untimed, 0, _wrap(shown - decoded, modulus))
    keys = np.array(stamps.keys)

    far = _find_far_off(decoded, keys)
    starts = _find_joints(decoded, delays, keys, far, depth, pause, step, is_joint)
    edges = [0, *starts, len(decoded)]
    wrong = far.copy()
    for begin, end in pairwise(edges):
        part = slice(begin, end)
        wrong[part] |= _find_far_shown(decoded[part], delays[part], far[part], depth, step, end < len(decoded))
    if wrong.sum() > far.sum() + max(_DAMAGED_SHARE * len(wrong), 2):
        wrong = far
    if not starts and not wrong.any():
        return None
    joined = _join(decoded, delays, np.array(stamps.lengths), far, wrong, edges, step)
    return Clock(_fill_slots(joined, delays, wrong, step), joined, tuple(starts))


def _wrap(differences: np.ndarray, modulus: int) -> np.ndarray:
    return (differences + modulus // 2) % modulus - modulus // 2 if modulus else differences


def _find_far_off(decoded: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Finds, as bool ``[n]``, which packets lie far off, while the clock goes on after them as before.

    Example:
        >>> np.flatnonzero(_find_far_off(np.array([0, 10, 900, 910, 40, 50, -70, 70]), np.zeros(8, bool)))
        array([2, 3, 6])
    """
    rises = np.diff(decoded)
    far = np.zeros(len(decoded), dtype=bool)
    step = float(np.median(rises[rises > 0])) if (rises > 0).any() else 0.0
    forward = np.flatnonzero(rises > 1.5 * step) + 1
    for back in (np.flatnonzero(rises < 0) + 1).tolist():
        # Either the packets before the step back are too late, or those after it too early.
        place = int(np.searchsorted(forward, back))
        late = [(begin, back) for begin in forward[max(place - _FEW, 0) : place][::-1].tolist()]
        early = [(back, end) for end in forward[place : place + _FEW].tolist()]
        for begin, end in late + early:
            passed, steps = int(decoded[end] - decoded[begin - 1]), end - begin + 1
            if not far[begin - 1 : end].any() and abs(passed - steps * step) <= max(1.5, min(steps, _FEW) / 2) * step:
                far[begin:end] = True
                break
    # A first packet that others need stands alone long before them: the recorder's clock was set after it.
    if len(rises) > 2 and not far.any() and not keys[1] and rises[0] > 1000 * max(3 * step, rises[1:].max()):
        far[0] = True
    return far


def _find_joints(
    decoded: np.ndarray,
    delays: np.ndarray,
    keys: np.ndarray,
    far: np.ndarray,
    depth: int,
    longest: float,
    step: int,
    is_joint: Callable[[int], bool] | None,
) -> list[int]:
    """Finds the packets at which the clock of another recording begins."""
    good = np.flatnonzero(~far)
    times = decoded[good]
    rises = np.diff(times)
    joints = []
    suspect = rises <= 0 if is_joint is None else (rises <= 0) | (rises > longest)
    for place in (np.flatnonzero(suspect) + 1).tolist():
        number, rise = int(good[place]), int(rises[place - 1])
        if rise > 0:
            if is_joint is not None and is_joint(number):
                joints.append(number)
            continue
        # Some files repeat a DTS, or step back by less than the frames held back. Their frames are shown in order.
        earlier = good[max(0, place - _DEEPEST) : place]
        shown = decoded[earlier] + delays[earlier]
        collides = bool(decoded[number] + delays[number] <= shown.max())
        if collides and (keys[number] or rise < -(depth + 1) * step):
            joints.append(number)
    return joints


def _join(
    decoded: np.ndarray,
    delays: np.ndarray,
    lengths: np.ndarray,
    far: np.ndarray,
    wrong: np.ndarray,
    edges: list[int],
    step: int,
) -> np.ndarray:
    """DTS int64 ``[n]`` that go on from recording to recording; those that are far off are put between the others."""
    joined: np.ndarray = decoded.copy()
    end = 0
    for begin, stop in pairwise(edges):
        part = np.arange(begin, stop)
        good, timed = part[~far[part]], part[~wrong[part]]
        if not len(timed):
            good = timed = part
        if begin:
            joined[part] += end - int((decoded + delays)[timed[: 2 * _DEEPEST]].min())
        shown = joined[timed] + delays[timed]
        length = int(lengths[timed[shown.argmax()]])
        end = int(shown.max()) + (length if 0 < length <= 100 * step else step)
        if wrong[part[-2:]].any():  # the last packets have damaged times; frames are shown as evenly as decoded
            end = max(end, int(joined[good[-1]] + delays[timed[0]]) + step * int(part[-1] - good[-1] + 1))
    if far.any():
        good = np.flatnonzero(~far)
        joined[far] = np.interp(np.flatnonzero(far), good, joined[good]).round()
        joined[: good[0]] = joined[good[0]] - step * (good[0] - np.arange(good[0]))
        joined[good[-1] + 1 :] = joined[good[-1]] + step * np.arange(1, len(far) - good[-1])
    return joined


def _find_far_shown(
    decoded: np.ndarray, delays: np.ndarray, far: np.ndarray, depth: int, step: int, followed: bool
) -> np.ndarray:
    """Finds, as bool ``[n]``, which PTS are far from the DTS around, and contradicted by the order of the frames.

    Only a few frames may be shown before a frame that was decoded before them. ``followed`` says that another recording
    follows, whose first time FFmpeg may give to the last frame.
    """
    count = len(decoded)
    wrong = np.zeros(count, dtype=bool)
    usual = int(np.median(delays))
    if not (delays != usual).any():
        return wrong
    padded = np.pad(decoded, _DEEPEST + 1, mode="edge")
    shown = decoded + delays
    early = ~far & (shown - usual < padded[:count] - _DEEPEST * step)
    late = ~far & (shown - usual > padded[-count:] + _DEEPEST * step)
    if followed:  # no delay like those of the others
        ends = slice(max(count - 2, 1), count)
        known = delays[: max(count - 2, 1)]
        late[ends] = [np.abs(known - delay).min() * 4 > step for delay in delays[ends]]
        late &= ~far
    candidates = np.flatnonzero(early | late)
    if not len(candidates) or len(candidates) > max(_DAMAGED_SHARE * count, 2):
        return wrong
    # How many frames that are decoded later, within reach, are shown earlier: of most frames, and of these.
    others = np.flatnonzero(~far & ~early & ~late)
    ranks = np.argsort(np.argsort(shown[others], kind="stable"), kind="stable")
    usually = int((ranks - np.arange(len(ranks))).max()) if len(others) > 2 * _DEEPEST else 2 * depth
    # Without any pause in the DTS, there is none in what is shown.
    regular = bool((np.diff(decoded[~far]) <= 1.5 * step).all())
    for number in candidates.tolist():
        if late[number]:
            passed = int((shown[others[others > number][: 2 * _DEEPEST]] < shown[number]).sum())
            limit = _DEEPEST if depth and count - number > 2 * _DEEPEST else usually
            wrong[number] = regular or passed > limit or (followed and count - number <= 2)
        else:
            before = others[others < number][-2 * _DEEPEST :]
            wrong[number] = int((shown[before] > shown[number]).sum()) > max(depth, 1)
    return wrong


def _fill_slots(decoded: np.ndarray, delays: np.ndarray, wrong: np.ndarray, step: int) -> np.ndarray:
    """PTS int64 ``[n]``; those that are wrong take the places in the row of shown frames that the others leave.

    Frames are shown as evenly as they are decoded, so that the places are the DTS, moved by the delay of the first.

    Example:
        >>> decoded = np.array([0, 10, 20, 30, 40])
        >>> _fill_slots(decoded, np.array([10, 20, 700, 10, 10]), np.array([False, False, True, False, False]), 10)
        array([10, 30, 20, 40, 50])
    """
    shown: np.ndarray = decoded + delays
    if not wrong.any():
        return shown
    good = ~wrong
    first = int(np.flatnonzero(good)[0])
    places = decoded + delays[first]
    taken = np.sort(shown[good])
    nearest = np.clip(np.searchsorted(taken, places), 1, max(len(taken) - 1, 1))
    nearest = np.minimum(nearest, len(taken) - 1)
    distance = np.minimum(np.abs(taken[nearest] - places), np.abs(taken[np.maximum(nearest - 1, 0)] - places))
    free = np.sort(places[distance * 2 > step])
    numbers = np.flatnonzero(wrong)
    usual = int(np.median(delays[good]))
    for number in numbers.tolist():
        later = free[free >= decoded[number] + min(int(delays[good].min()), 0)]
        if len(later) and later[0] - decoded[number] <= 2 * _DEEPEST * step:
            shown[number], free = later[0], free[free != later[0]]
        else:
            shown[number] = decoded[number] + usual
    return shown
