"""Encodes stretches of a video, pictures and sound, into an MP4 file that plays everywhere."""

import struct
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from r2tuning.errors import OutputError, VideoError, VideoWarning
from r2tuning.output.media.footage import Footage, Stretch
from r2tuning.output.media.picture import Fitter, is_rgb
from r2tuning.output.media.sound import SoundWriter

_BITS_PER_PIXEL = 0.2  # for encoders that need a bit rate; x264 has a quality


@dataclass(frozen=True)
class Encoder:
    """A video encoder that FFmpeg may have been built with."""

    name: str
    options: dict[str, str]
    shortest_tick: Fraction = Fraction(0)  # seconds; it refuses shorter ones
    deep: bool = False  # whether it also takes 10 bits and 4:4:4

    def choose_format(self, frame: VideoFrame) -> str:
        """FFmpeg's name of the format in which frames like this one are encoded.

        4:2:2 and RGB become 4:2:0, because more devices play it.
        """
        parts = frame.format.components
        bits = "10le" if self.deep and max(part.bits for part in parts) > 8 else ""
        whole = (
            len(parts) > 2
            and not is_rgb(frame)
            and all((part.width, part.height) == (frame.width, frame.height) for part in parts)
        )
        return f"yuv{'444' if self.deep and whole else '420'}p{bits}"


ENCODERS = (
    Encoder("libx264", {"preset": "veryfast", "crf": "18"}, deep=True),
    Encoder("libopenh264", {}),
    Encoder("mpeg4", {}, Fraction(1, 60000)),
)
"""Best first. Every FFmpeg has the last one, whose files are larger."""


WHOLE = {"movflags": "faststart"}
PIECE = {"movflags": "empty_moov+default_base_moof", "frag_duration": "60000000"}
"""Options of the MP4 format: for a file by itself, and for a piece that a browser appends to others."""

PREVIEW_HEIGHT = 720
"""Most lines of a preview."""


def write_stretches(
    footage: Footage,
    stretches: Sequence[Stretch],
    file: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    preview: bool = False,
) -> None:
    """Encodes stretches one after the other.

    Pictures keep the distances of their timestamps, and sound is aligned with them to the sample: neither drifts,
    however many stretches there are. A rotated video stays rotated, by its display matrix; interlaced frames are
    deinterlaced; for color and shape see `Fitter`. ``progress`` is called after each frame with the numbers of frames
    written and expected. A ``preview`` is small, in what every browser decodes, and one fragment.

    Raises `OutputError` if this FFmpeg has no encoder for MP4, and `VideoError` if none of the frames can be decoded.
    """
    expected = sum(len(stretch.ticks) for stretch in stretches)
    with av.open(str(file), "w", format="mp4", options=PIECE if preview else WHOLE) as container:
        note = partial(_note, progress, expected)
        writer = _Writer(container, footage, note, preview=preview)
        for stretch in stretches:
            writer.add(stretch)
        writer.finish()
    if writer.written < expected:
        warnings.warn(
            f"{footage.info.path} is damaged: {expected - writer.written} of {expected} frames cannot be decoded; "
            f"the frames before them stay on the screen",
            VideoWarning,
            stacklevel=4,
        )


def _note(progress: Callable[[int, int], None] | None, expected: int, written: int) -> None:
    if progress is not None:
        progress(written, expected)


class _Writer:
    """Encodes into an open container, pictures and sound interleaved."""

    def __init__(
        self, container: OutputContainer, footage: Footage, progress: Callable[[int], None], *, preview: bool
    ) -> None:
        self.written = 0
        self._preview = preview
        self._container, self._footage, self._progress = container, footage, progress
        self._encoder = _find_encoder()
        self._time_base = max(footage.time_base, self._encoder.shortest_tick)
        self._length = Fraction(0)  # seconds of the stretches that are done
        self._video: VideoStream | None = None
        self._fitter: Fitter | None = None
        self._sound = SoundWriter(container, footage.info.path, footage.sound)

    def add(self, stretch: Stretch) -> None:
        """Appends a stretch."""
        base = self._footage.time_base
        shown = np.maximum(stretch.ticks, stretch.begin)
        lengths = dict(zip(stretch.ticks.tolist(), np.diff([*shown, stretch.end]).tolist(), strict=True))
        after = self._length + (stretch.end - stretch.begin) * base
        with (
            self._sound.open(stretch.begin * base, after) as write_sound,
            closing(self._footage.read_frames(stretch.ticks)) as frames,
        ):
            number = -1
            for number, (tick, frame) in enumerate(frames):
                # If the first frame is damaged, the next one stands in for it.
                time = self._length + (max(tick - stretch.begin, 0) if number else 0) * base
                self._write_frame(frame, time, lengths[tick] * base)
                write_sound(time)
            if number < 0:
                start, end = self._footage.find_time(stretch.begin), self._footage.find_time(stretch.end)
                raise VideoError(
                    f"{self._footage.info.path} is damaged: nothing can be decoded from {start:.3f} s to "
                    f"{end:.3f} s; copy or download it again"
                )
            write_sound(after)
        self._length = after

    def finish(self) -> None:
        """Flushes the encoders."""
        if self._video is not None:
            self._container.mux(self._video.encode(None))
        self._sound.finish()

    def _write_frame(self, stored: VideoFrame, time: Fraction, length: Fraction) -> None:
        if self._fitter is None:
            pix_fmt = "yuv420p" if self._preview else self._encoder.choose_format(stored)
            tallest = PREVIEW_HEIGHT if self._preview else None
            self._fitter = Fitter(stored, self._footage.fixed_aspect, pix_fmt, tallest)
        frame = self._fitter.fit(stored)
        if self._video is None:
            self._video = self._add_video(stored, frame, self._fitter)
        frame.time_base = self._time_base
        frame.pts, frame.duration = round(time / self._time_base), max(1, round(length / self._time_base))
        frame.pict_type = 0  # the encoder decides where key frames go
        self._container.mux(self._video.encode(frame))
        self.written += 1
        self._progress(self.written)

    def _add_video(self, stored: VideoFrame, fitted: VideoFrame, fitter: Fitter) -> VideoStream:
        rate = self._footage.info.frame_rate.limit_denominator(1001)
        stream = self._container.add_stream(self._encoder.name, rate=rate or 1, options=self._encoder.options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = fitted.width, fitted.height, fitted.format.name
        context = stream.codec_context
        context.time_base = self._time_base
        context.flags |= Flags.frame_duration
        context.max_b_frames = 0  # with frames out of order, MP4 cannot store the length of the last one
        context.sample_aspect_ratio = fitter.aspect
        context.color_range, context.colorspace = fitter.range, fitter.matrix
        context.color_primaries, context.color_trc = fitter.primaries, fitter.transfer
        if self._encoder.name != "libx264":
            stream.bit_rate = int(fitted.width * fitted.height * rate * _BITS_PER_PIXEL) + 100_000
        matrix = stored.side_data.get("DISPLAYMATRIX")
        if isinstance(matrix, SideData):
            stream.set_display_matrix(struct.unpack("=9i", bytes(matrix)))
        return stream


def _find_encoder() -> Encoder:
    for encoder in ENCODERS:
        try:
            av.Codec(encoder.name, "w")
        except av.codec.codec.UnknownCodecError:
            continue
        return encoder
    raise OutputError("this FFmpeg has no video encoder for MP4: install PyAV from PyPI (pip install av)")
