"""The sound of a video: exactly the samples that are heard in a stretch of it, decoded, and encoded again for MP4."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from r2tuning.video.container import decode_frames, find_sounds, open_video, read_packets

# Rates of AAC, hertz. Sound of another rate is resampled.
_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_USUAL_RATE = 48000
# Seconds. Sound decoders need a little of what comes before.
_LEAD = 1
# Seconds by which rounded timestamps may differ from the sample count before it is corrected.
_SLACK = Fraction(1, 50)

_BITS = 96_000  # of AAC, per second and channel
_FADE = 0.005  # seconds in which sound fades in and out, because a jump is heard as a click

# Seconds by which time jumps where recordings are joined; FFmpeg and players look for them in the same way.
_JOINT_BACK, _JOINT_AHEAD = Fraction(1, 10), 10


@dataclass(frozen=True)
class Sound:
    """The sound that a player would play with a video."""

    index: int  # of the stream in the file
    rate: int  # samples per second as they are read; the file's unless AAC does not support it
    channels: int  # 1, or 2 if the file has more than one
    shifts: tuple[
        Fraction, ...
    ] = ()  # of each recording joined to the first: seconds by which its stored times are off


def find_sound(stream: VideoStream) -> Sound | None:
    """Finds the sound that belongs to an open video stream; None if there is none that can be decoded."""
    contexts = ((sound.index, sound.codec_context) for sound in find_sounds(stream))
    found = next(((number, context) for number, context in contexts if context and context.sample_rate), None)
    if found is None:
        return None
    number, context = found
    rate = context.sample_rate if context.sample_rate in _RATES else _USUAL_RATE
    return Sound(number, rate, min(context.channels, 2) or 1)


def choose_sound(sounds: Iterable[Sound | None]) -> Sound | None:
    """The rate and the channels that suit several sounds, as a sound that has them; None if there are none.

    Example:
        >>> sound = choose_sound([None, Sound(1, 44100, 1), Sound(3, 44100, 2)])
        >>> sound.rate, sound.channels, choose_sound([None])
        (44100, 2, None)
    """
    found = [sound for sound in sounds if sound is not None]
    if not found:
        return None
    rates = {sound.rate for sound in found}
    rate = rates.pop() if len(rates) == 1 else _USUAL_RATE
    return replace(found[0], rate=rate, channels=max(sound.channels for sound in found))


def read_samples(path: str, sound: Sound, begin: Fraction, samples: int) -> Iterator[np.ndarray]:
    """Decodes sound from ``begin``, a stored time in seconds, with silence where the file has none.

    Yields blocks, float32 ``[channels, n]``, which hold ``samples`` of each channel in all.
    """
    done = 0
    due: int | None = None  # where the next block belongs if it follows the one before
    with open_sound(path, sound, begin) as (audio, packets):
        for time, block in _decode(audio, sound, packets):
            place = round((time - begin) * sound.rate) if time is not None else due or 0
            if due is not None and abs(place - due) <= _SLACK * sound.rate:
                place = due
            due = place + block.shape[1]
            while done < min(place, samples):
                yield _silence(sound, min(place, samples) - done)
                done = min(place, samples, done + sound.rate)
            piece = block[:, max(done - place, 0) : max(samples - place, 0)]
            if piece.shape[1]:
                yield piece
                done += piece.shape[1]
            if done >= samples:
                return
    while done < samples:
        yield _silence(sound, samples - done)
        done = min(samples, done + sound.rate)


@contextmanager
def open_sound(path: str, sound: Sound, begin: Fraction) -> Iterator[tuple[AudioStream, Iterator[Packet[AudioStream]]]]:
    """Opens a file, and yields the stream of its sound and its packets from a little before ``begin``, in seconds."""
    with open_video(path) as stream:
        audio = cast(AudioStream, stream.container.streams[sound.index])
        packets = None if sound.shifts else _seek(audio, begin)
        if packets is not None:
            yield audio, packets
            return
    with open_video(path) as stream:  # not every format can be rewound
        audio = cast(AudioStream, stream.container.streams[sound.index])
        yield audio, _shift(audio, sound.shifts)


def _shift(audio: AudioStream, shifts: tuple[Fraction, ...]) -> Iterator[Packet[AudioStream]]:
    """Reads sound from the beginning of a file and puts that of joined recordings where their pictures are."""
    number, expected = 0, None
    for packet in _read_packets(audio):
        if packet.pts is not None and shifts:
            jump = (packet.pts - expected) * packet.time_base if expected is not None else 0
            if number < len(shifts) and not -_JOINT_BACK < jump < _JOINT_AHEAD:
                number += 1
            expected = packet.pts + (packet.duration or 0)
            if number:
                packet.pts += round(shifts[number - 1] / packet.time_base)
                packet.dts = packet.pts
        yield packet


def _seek(audio: AudioStream, begin: Fraction) -> Iterator[Packet[AudioStream]] | None:
    """Seeks to a little before ``begin``; None if only reading from the beginning is certain to work."""
    time_base = audio.time_base or Fraction(1, audio.rate)
    if begin - _LEAD > (audio.start_time or 0) * time_base:
        try:
            cast(InputContainer, audio.container).seek(int((begin - _LEAD) / time_base), stream=audio)
        except av.FFmpegError:
            return None
        packets = _read_packets(audio)
        first = next(packets, None)
        if first is None or first.pts is None or first.pts * time_base > begin - Fraction(_LEAD, 2):
            return None
        return chain([first], packets)
    return _read_packets(audio)


def _read_packets(audio: AudioStream) -> Iterator[Packet[AudioStream]]:
    return cast("Iterator[Packet[AudioStream]]", read_packets(cast(Any, audio)))


def _decode(
    audio: AudioStream, sound: Sound, packets: Iterator[Packet[AudioStream]]
) -> Iterator[tuple[Fraction | None, np.ndarray]]:
    """Yields when each block of samples begins, in seconds where that is known, and float32 ``[channels, n]``."""
    shape: tuple[str, str, int] | None = None
    resampler: AudioResampler | None = None
    for frame in chain(cast("Iterator[AudioFrame]", decode_frames(cast(Any, audio), cast(Any, packets))), (None,)):
        if frame is not None and shape != (frame.format.name, frame.layout.name, frame.sample_rate):
            shape = frame.format.name, frame.layout.name, frame.sample_rate
            resampler = AudioResampler("fltp", "mono" if sound.channels == 1 else "stereo", sound.rate)
        for block in resampler.resample(frame) if resampler is not None else ():
            if block is not None:  # without resampling, PyAV passes everything through, even the end
                time = None if block.pts is None or block.time_base is None else block.pts * block.time_base
                yield time, cast(np.ndarray, block.to_ndarray())


def _silence(sound: Sound, samples: int) -> np.ndarray:
    return np.zeros((sound.channels, min(samples, sound.rate)), np.float32)


class SoundWriter:
    """Encodes the sound of stretches into an open container as AAC, one after the other, aligned to the sample.

    ``sound`` has its rate and channels. Does nothing if it is None.
    """

    def __init__(self, container: OutputContainer, sound: Sound | None) -> None:
        self._container, self._sound = container, sound
        self._written = 0  # samples
        self._audio: AudioStream | None = None
        if sound is not None:
            self._audio = container.add_stream(
                "aac", rate=sound.rate, layout="mono" if sound.channels == 1 else "stereo"
            )
            self._audio.bit_rate = _BITS * sound.channels

    @contextmanager
    def open(
        self, path: str, sound: Sound | None, begin: Fraction, after: Fraction
    ) -> Iterator[Callable[[Fraction], None]]:
        """Opens the sound of a file from the stored second ``begin``, for the output up to its second ``after``.

        Yields a function that writes it, or silence if the file has none, up to a second of the output, at least.
        """
        with closing(self._read(path, sound, begin, after)) as blocks:
            yield lambda until: self._write(blocks, until)

    def finish(self) -> None:
        """Flushes the encoder."""
        if self._audio is not None:
            self._container.mux(self._audio.encode(None))

    def _read(
        self, path: str, sound: Sound | None, begin: Fraction, after: Fraction
    ) -> Generator[np.ndarray, None, None]:
        """Yields the samples of a stretch up to the second ``after`` of the output, faded at both ends."""
        if self._sound is None:
            return
        count = round(after * self._sound.rate) - self._written
        if sound is None:
            for first in range(0, count, self._sound.rate):
                yield _silence(self._sound, count - first)
            return
        sound = replace(sound, rate=self._sound.rate, channels=self._sound.channels)
        ramp = max(1.0, min(_FADE * self._sound.rate, count / 2))
        done = 0
        for block in read_samples(path, sound, begin, count):
            place = np.arange(done, done + block.shape[1])
            gain = np.clip(np.minimum(place + 0.5, count - place - 0.5) / ramp, 0, 1).astype(np.float32)
            yield block * gain
            done += block.shape[1]

    def _write(self, blocks: Iterator[np.ndarray], until: Fraction) -> None:
        sound, audio = self._sound, self._audio
        while sound is not None and audio is not None and self._written < round(until * sound.rate):
            block = next(blocks)
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", audio.layout.name)
            frame.sample_rate, frame.time_base, frame.pts = sound.rate, Fraction(1, sound.rate), self._written
            self._written += block.shape[1]
            self._container.mux(audio.encode(frame))
