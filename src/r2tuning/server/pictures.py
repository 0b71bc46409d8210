"""What the worker process that reads videos does: facts, pictures, pieces of previews, and files without frames.

Videos may be hostile: FFmpeg runs in a process of its own, whose death costs one request.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2tuning.errors import R2TuningError, VideoError
from r2tuning.output.media.footage import Footage
from r2tuning.server.exports import ExportTask, write_export
from r2tuning.server.previews import Piece, Plan, plan_preview, write_piece
from r2tuning.server.workers import Failure, Worker
from r2tuning.types import VideoInfo
from r2tuning.video import probe

MOST_OPEN = 16
"""Videos whose timelines are remembered."""

MOST_WAITING = 256
SECONDS = 120.0


@dataclass(frozen=True)
class Probe:
    """Asks for the facts of a file, which must be a video; the answer is a `VideoInfo`."""

    path: str


@dataclass(frozen=True)
class Strip:
    """Asks for pictures of a video side by side, or for one picture; the answer is a JPEG.

    Attributes:
        path: The video.
        times: Seconds on the player's clock.
        height: Of the pictures, pixels.
    """

    path: str
    times: tuple[float, ...]
    height: int


@dataclass(frozen=True)
class Preview:
    """Asks how a browser can play a video; the answer is a `Plan`."""

    path: str


@dataclass(frozen=True)
class Written:
    """A file: its name and content."""

    name: str
    content: bytes


Order = Probe | Strip | Preview | Piece | ExportTask
Made = VideoInfo | bytes | Plan | Written
Pictures = Worker[Order, Made]


def start_pictures() -> Pictures:
    """The worker that reads videos, to be started."""
    return Worker("pictures", open_pictures, most_waiting=MOST_WAITING, seconds=SECONDS)


def open_pictures() -> Callable[[list[Order]], list[Made | Failure]]:
    """Prepares a process, and returns the function that does what it is asked."""
    warnings.simplefilter("ignore")
    return Studio().make_all


class Studio:
    """Makes pictures; remembers the timelines of the last videos."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, int, int], Footage] = OrderedDict()

    def make_all(self, orders: list[Order]) -> list[Made | Failure]:
        """Does what was asked, one after the other."""
        return [self._make(order) for order in orders]

    def _make(self, order: Order) -> Made | Failure:
        try:
            if isinstance(order, Probe):
                return probe(order.path)
            if isinstance(order, ExportTask):
                with tempfile.TemporaryDirectory(prefix="r2tuning-") as folder:
                    name = write_export(order, Path(folder))
                    return Written(name, (Path(folder) / name).read_bytes())
            footage = self._find(order.path)
            if isinstance(order, Strip):
                return draw_strip(footage, order.times, order.height)
            return plan_preview(footage) if isinstance(order, Preview) else write_piece(footage, order)
        except R2TuningError as error:
            return Failure(error)
        except (ValueError, OSError) as error:
            place = order.path if not isinstance(order, ExportTask) else "export"
            return Failure(VideoError(f"{place}: {error}; check the file"))

    def _find(self, path: str) -> Footage:
        status = Path(path).stat()
        key = path, status.st_size, status.st_mtime_ns
        if key not in self._open:
            self._open[key] = Footage(path)
        self._open.move_to_end(key)
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        return self._open[key]


def draw_strip(footage: Footage, times: tuple[float, ...], height: int) -> bytes:
    """Pictures of a video at some times, side by side, as a JPEG; where it is damaged, the picture before is shown.

    Raises:
        VideoError: If none of the pictures can be decoded.
    """
    from PIL import Image  # comes with Matplotlib

    ticks = np.array([footage.find_shown(time) for time in times], np.int64)
    wanted = np.unique(ticks)
    with closing(footage.read_frames(wanted)) as frames:
        found = {tick: footage.turn_upright(frame, height * 4) for tick, frame in frames}
    if not found:
        raise VideoError(f"{footage.info.path}: the pictures at these times cannot be decoded; copy it again")
    pictures = []
    shown = next(iter(found.values()))
    for tick in ticks.tolist():
        shown = found.get(tick, shown)
        picture = Image.fromarray(np.ascontiguousarray(shown))
        width = max(1, round(picture.width * height / picture.height))
        pictures.append(picture.resize((min(width, 4 * height), height), Image.Resampling.BILINEAR))
    strip = Image.new("RGB", (sum(picture.width for picture in pictures), height))
    place = 0
    for picture in pictures:
        strip.paste(picture, (place, 0))
        place += picture.width
    content = io.BytesIO()
    strip.save(content, "JPEG", quality=80)
    return content.getvalue()
