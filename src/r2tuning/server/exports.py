"""A selection of moments, perhaps corrected by hand, as a file to take away."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from r2tuning.errors import OutputError
from r2tuning.files import file_name, quote_formula, replace_file, write_atomically
from r2tuning.output.registry import WRITERS, find_target, save_results
from r2tuning.types import Moment, Saliency, Sampling

if TYPE_CHECKING:
    from r2tuning.results import Grounding

Format = Literal[
    "json", "jsonl", "csv", "md", "txt", "srt", "vtt", "ffmetadata", "edl", "otio", "fcpxml", "custom",
    "gif", "mp4", "html", "sheet", "clips",
]  # fmt: skip
"""Those of the writers, but for charts, which show more than moments; ``custom`` is a table to train from, and
``clips`` an archive with a video for each moment."""

RENDERED: tuple[Format, ...] = ("gif", "mp4", "html", "sheet", "clips")
"""Formats that show frames, which takes a while."""

Progress = Callable[[int, "int | None"], None]

_COLUMNS = ("video", "start", "end", "query")


class ExportVideo(BaseModel):
    """A video, and what the library knows of it."""

    model_config = ConfigDict(frozen=True)

    path: str
    name: str
    duration: float
    start: float
    sampling: Sampling
    truncated: bool
    identity: str


class ExportMoment(BaseModel):
    """A moment of one of the videos; without times, it says that the video does not show the query."""

    model_config = ConfigDict(frozen=True)

    video: int
    query: str
    start: float | None
    end: float | None
    score: float


class ExportTask(BaseModel):
    """What to write."""

    model_config = ConfigDict(frozen=True)

    format: Format
    videos: list[ExportVideo]
    moments: list[ExportMoment]
    model: str
    pad: float = 0.0
    timecode: Literal["source", "zero"] = "source"
    fast: bool = False


def write_export(task: ExportTask, folder: Path, progress: Progress = lambda *_: None) -> str:
    """Writes the moments to one file in a folder, and returns its name; several files become an archive.

    Raises:
        OutputError: If a file cannot be written, or there is nothing to write.
        VideoError: If a video cannot be read.
    """
    if task.format == "custom":
        write_atomically(folder / "moments.csv", to_annotations(task), force=True)
        return "moments.csv"
    answers = to_answers(task)
    if not answers:
        raise OutputError("export: has no moment with times; select one")
    if task.format == "clips":
        return _write_clips(task, answers, folder, progress)
    suffix = {"sheet": "png"}.get(task.format, task.format)
    target = find_target(f"{task.format}:{folder / f'moments.{suffix}'}")
    groups = _group(answers)
    parts = target.part(_label(groups)) if not WRITERS[task.format].many_videos else [target]
    options: dict[str, Any] = {
        "pad": task.pad,
        "timecode": task.timecode,
        "embed": True,
        "top": len(task.moments),
        "names": {video.path: video.name for video in task.videos},
    }
    names: list[str] = []
    for part, results in zip(parts, groups if len(parts) > 1 else [answers], strict=True):
        if len(parts) == 1 or "progress" not in part.writer.options:
            progress(len(names), len(parts))
        shown = progress if len(parts) == 1 and "progress" in part.writer.options else None
        save_results(results, part, force=True, **options, progress=shown)
        names += [Path(single.path).name for single, _ in part.split(results)]
    return names[0] if len(names) == 1 else _pack(folder, names)


def to_answers(task: ExportTask) -> list[Grounding]:
    """The moments as an answer for each video and query, best first."""
    from r2tuning.results import Grounding

    of_pair: dict[tuple[int, str], list[Moment]] = {}
    for moment in task.moments:
        if moment.start is not None and moment.end is not None:
            found = Moment(moment.start, moment.end, moment.score)
            of_pair.setdefault((moment.video, moment.query), []).append(found)
    return [
        Grounding(
            query=query,
            video=video.path,
            duration=video.duration,
            start=video.start,
            moments=sorted(moments, key=lambda moment: -moment.score),
            saliency=Saliency(np.zeros(0), np.zeros(0)),
            model=task.model,
            sampling=video.sampling,
            video_truncated=video.truncated,
            identity=video.identity,
        )
        for (number, query), moments in of_pair.items()
        for video in [task.videos[number]]
    ]


def to_annotations(task: ExportTask) -> str:
    """The moments as annotations to train from, which `r2tuning.datasets.load_custom` reads."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for moment in task.moments:
        times = ("" if time is None else f"{time:.3f}" for time in (moment.start, moment.end))
        writer.writerow([quote_formula(task.videos[moment.video].name), *times, quote_formula(moment.query)])
    return text.getvalue()


def _group(answers: Sequence[Grounding]) -> list[list[Grounding]]:
    """The answers about each video."""
    of_video: dict[str, list[Grounding]] = {}
    for answer in answers:
        of_video.setdefault(answer.video, []).append(answer)
    return list(of_video.values())


def _label(groups: Sequence[Sequence[Grounding]]) -> list[str]:
    stems = [file_name(Path(group[0].video).stem, "") for group in groups]
    return [f"{stem}-{place}" if stems.count(stem) > 1 else stem for place, stem in enumerate(stems, start=1)]


def _write_clips(task: ExportTask, answers: Sequence[Grounding], folder: Path, progress: Progress) -> str:
    from r2tuning.output.media import Footage, cut
    from r2tuning.output.media.cut import name_clip

    groups, names = _group(answers), list[str]()
    total = sum(len(answer.moments) for answer in answers)
    progress(0, total)
    for label, group in zip(_label(groups), groups, strict=True):
        group[0].check_video()
        footage = Footage(group[0].video)
        inside = folder / label if len(groups) > 1 else folder
        inside.mkdir(exist_ok=True)
        moments = [(answer.query, moment) for answer in group for moment in answer.moments]
        for number, (query, moment) in enumerate(moments, start=1):
            name = name_clip(number, len(moments), query, moment.start, moment.end)
            cut(footage, moment.start - task.pad, moment.end + task.pad, inside / name, not task.fast, force=True)
            names.append((inside / name).relative_to(folder).as_posix())
            progress(len(names), total)
    return names[0] if len(names) == 1 else _pack(folder, names)


def _pack(folder: Path, names: Sequence[str]) -> str:
    """Puts files of a folder into an archive, which takes their place."""
    with replace_file(folder / "moments.zip") as temporary, zipfile.ZipFile(temporary, "x") as archive:
        for name in names:
            archive.write(folder / name, name, zipfile.ZIP_DEFLATED if Path(name).suffix != ".mp4" else None)
    for name in names:
        (folder / name).unlink()
    return "moments.zip"
