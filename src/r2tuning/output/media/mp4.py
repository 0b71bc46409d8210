"""Encodes stretches of a video, pictures and sound, into an MP4 file that plays everywhere."""

import struct
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

from r2tuning.errors import OutputError, VideoError, VideoWarning
from r2tuning.output.media.footage import Footage, Stretch
from r2tuning.output.media.picture import Fitter, Raster, is_rgb
from r2tuning.output.media.sound import SoundWriter, choose_sound

_BITS_PER_PIXEL = 0.2  # for encoders that need a bit rate; x264 has a quality
# Seconds per tick of several videos: whole ticks for 24, 25, 30, 50 and 60 frames a second, and for 1000/1001 of that.
_SHARED_TICK = Fraction(1, 120_000)
_HIGH_RANGES = (int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67))  # transfers of HDR: PQ and HLG


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
PIECE = {"movflags": "empty_moov+delay_moov+default_base_moof", "frag_duration": "60000000"}
"""Options of the MP4 format: for a file by itself, and for a piece that a browser appends to others."""

PREVIEW_HEIGHT = 720
"""Most lines of a preview."""


def write_stretches(
    parts: Sequence[tuple[Footage, Sequence[Stretch]]],
    file: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    preview: bool = False,
) -> None:
    """Encodes stretches of a video, or of several, one after the other.

    Pictures keep the distances of their timestamps, and sound is aligned with them to the sample: neither drifts,
    however many stretches there are. Interlaced frames are deinterlaced. One video keeps its size, colors and display
    matrix, see `Raster.of`; several are turned upright and fitted to the size of the largest. ``progress`` is called
    after each frame with the numbers of frames written and expected. A ``preview`` is upright, small, and one fragment.

    Raises `OutputError` if this FFmpeg has no encoder for MP4, and `VideoError` if none of the frames can be decoded.
    """
    expected = sum(len(stretch.ticks) for _, stretches in parts for stretch in stretches)
    with av.open(str(file), "w", format="mp4", options=PIECE if preview else WHOLE) as container:
        footages = [footage for footage, _ in parts]
        raster = choose_raster(footages, PREVIEW_HEIGHT if preview else None)
        shared = raster if preview or len(footages) > 1 else None
        writer = _Writer(container, footages, shared, lambda written: progress(written, expected) if progress else None)
        for footage, stretches in parts:
            before = writer.written
            for stretch in stretches:
                writer.add(footage, stretch)
            frames = sum(len(stretch.ticks) for stretch in stretches)
            if missing := frames - (writer.written - before):
                warnings.warn(
                    f"{footage.info.path} is damaged: {missing} of {frames} frames cannot be decoded; "
                    f"the frames before them stay on the screen",
                    VideoWarning,
                    stacklevel=4,
                )
        writer.finish()


def choose_raster(footages: Sequence[Footage], tallest: int | None = None) -> Raster:
    """The raster in which several videos are shown: as large as the largest, with few lines, upright, and even."""
    sizes = [(footage.info.width, footage.info.height) for footage in footages]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if tallest is not None and height > tallest:
        width, height = round(width * tallest / height), tallest
    return Raster((width + width % 2, height + height % 2))


class _Writer:
    """Encodes into an open container, pictures and sound interleaved."""

    def __init__(
        self,
        container: OutputContainer,
        footages: Sequence[Footage],
        raster: Raster | None,
        progress: Callable[[int], None],
    ) -> None:
        self.written = 0
        self._container, self._progress = container, progress
        self._encoder = _find_encoder()
        self._raster = raster
        base = footages[0].time_base if self._raster is None else _SHARED_TICK
        self._time_base = max(base, self._encoder.shortest_tick)
        self._rate = max(footage.info.frame_rate for footage in footages).limit_denominator(1001)
        self._length = Fraction(0)  # seconds of the stretches that are done
        self._video: VideoStream | None = None
        self._footage: Footage | None = None  # to whose frames the fitter belongs
        self._fitter: Fitter | None = None
        self._sound = SoundWriter(container, choose_sound(footage.sound for footage in footages))

    def add(self, footage: Footage, stretch: Stretch) -> None:
        """Appends a stretch of a video."""
        if footage is not self._footage:
            self._footage, self._fitter = footage, None
        base = footage.time_base
        shown = np.maximum(stretch.ticks, stretch.begin)
        lengths = dict(zip(stretch.ticks.tolist(), np.diff([*shown, stretch.end]).tolist(), strict=True))
        after = self._length + (stretch.end - stretch.begin) * base
        with (
            self._sound.open(footage.info.path, footage.sound, stretch.begin * base, after) as write_sound,
            closing(footage.read_frames(stretch.ticks)) as frames,
        ):
            number = -1
            for number, (tick, frame) in enumerate(frames):
                # If the first frame is damaged, the next one stands in for it.
                time = self._length + (max(tick - stretch.begin, 0) if number else 0) * base
                self._write_frame(footage, frame, time, lengths[tick] * base)
                write_sound(time)
            if number < 0:
                start, end = footage.find_time(stretch.begin), footage.find_time(stretch.end)
                raise VideoError(
                    f"{footage.info.path} is damaged: nothing can be decoded from {start:.3f} s to "
                    f"{end:.3f} s; copy or download it again"
                )
            write_sound(after)
        self._length = after

    def finish(self) -> None:
        """Flushes the encoders."""
        if self._video is not None:
            self._container.mux(self._video.encode(None))
        self._sound.finish()

    def _write_frame(self, footage: Footage, stored: VideoFrame, time: Fraction, length: Fraction) -> None:
        if self._fitter is None:
            self._fitter = self._make_fitter(footage, stored)
        frame = self._fitter.fit(stored)
        if self._video is None:
            self._video = self._add_video(stored, frame, self._fitter.raster)
        frame.time_base = self._time_base
        frame.pts, frame.duration = round(time / self._time_base), max(1, round(length / self._time_base))
        frame.pict_type = 0  # the encoder decides where key frames go
        self._container.mux(self._video.encode(frame))
        self.written += 1
        self._progress(self.written)

    def _make_fitter(self, footage: Footage, first: VideoFrame) -> Fitter:
        aspect = footage.fixed_aspect
        if self._raster is None:
            return Fitter(Raster.of(first, aspect, self._encoder.choose_format(first)), aspect)
        if first.color_trc in _HIGH_RANGES:
            warnings.warn(
                f"{footage.info.path}: its HDR colors look pale beside other videos; to keep them, join it alone",
                VideoWarning,
                stacklevel=7,
            )
        return Fitter(self._raster, aspect, footage.info.rotation)

    def _add_video(self, stored: VideoFrame, fitted: VideoFrame, raster: Raster) -> VideoStream:
        stream = self._container.add_stream(self._encoder.name, rate=self._rate or 1, options=self._encoder.options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = fitted.width, fitted.height, fitted.format.name
        context = stream.codec_context
        context.time_base = self._time_base
        context.flags |= Flags.frame_duration
        context.max_b_frames = 0  # with frames out of order, MP4 cannot store the length of the last one
        context.sample_aspect_ratio = raster.aspect
        context.color_range, context.colorspace = raster.range, raster.matrix
        context.color_primaries, context.color_trc = raster.primaries, raster.transfer
        if self._encoder.name != "libx264":
            stream.bit_rate = int(fitted.width * fitted.height * self._rate * _BITS_PER_PIXEL) + 100_000
        matrix = stored.side_data.get("DISPLAYMATRIX")
        if isinstance(matrix, SideData) and self._raster is None:
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
