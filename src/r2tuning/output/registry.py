"""The list of formats: one writer for each, imported when it is used."""

from __future__ import annotations

import math
import os
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from r2tuning.errors import OutputError, VideoError
from r2tuning.files import check_target, write_atomically

if TYPE_CHECKING:
    from r2tuning.output.media.footage import Footage
    from r2tuning.results import Grounding, Summary
    from r2tuning.types import Moment, VideoInfo

STDOUT = "-"
"""Stands for standard output, as a file's name."""

Results: TypeAlias = "Sequence[Grounding | Summary]"


@dataclass(frozen=True)
class Writer:
    """How a format is written.

    Attributes:
        function: Takes a list of results. Those of r2tuning are named, by module and function below r2tuning.output, so
            that they are imported when they are used.
        options: Options of `save_results` that it takes too.
        text: Whether it returns text. If not, it also takes ``path`` and ``force``, and writes the file.
        framed: Whether it counts frames, and takes a `VideoInfo` as second argument.
        per_query: Whether each query gets its own file.
        many_videos: Whether a file may hold answers about several videos.
    """

    function: str | Callable[..., Any]
    options: tuple[str, ...] = ()
    text: bool = True
    framed: bool = False
    per_query: bool = False
    many_videos: bool = False

    def load(self) -> Callable[..., Any]:
        """Imports the function; a `ModuleNotFoundError` names the module that only an extra installs."""
        if not isinstance(self.function, str):
            return self.function
        module, _, name = self.function.rpartition(".")
        return getattr(import_module(f"{__package__}.{module}"), name)  # type: ignore[no-any-return]


PICTURES = ("png", "svg", "pdf")

WRITERS = {
    "json": Writer("text.json.to_json", many_videos=True),
    "jsonl": Writer("text.json.to_jsonl", many_videos=True),
    "csv": Writer("text.csv.to_csv", many_videos=True),
    "md": Writer("text.markdown.to_markdown", many_videos=True),
    "txt": Writer("text.terminal.to_table", ("top",), many_videos=True),
    "srt": Writer("text.subtitles.to_srt"),
    "vtt": Writer("text.subtitles.to_webvtt"),
    "ffmetadata": Writer("text.chapters.to_chapters"),
    "edl": Writer("text.edits.to_edl", framed=True),
    "otio": Writer("text.otio.to_otio", ("reference",), framed=True),
    "fcpxml": Writer("text.edits.to_fcpxml", ("reference",), framed=True),
    **dict.fromkeys(PICTURES, Writer("charts.grounding.save_plot", text=False, per_query=True)),
    "gif": Writer("registry.save_gif", ("footage",), text=False, per_query=True),
    "mp4": Writer("registry.save_reel", ("footage", "pad", "progress"), text=False, many_videos=True),
    "html": Writer("page.write_page", ("top", "embed", "names"), text=False, many_videos=True),
    "sheet": Writer("media.sheet.write_sheet", ("footage",), text=False),
}
"""Formats of answers by name: the suffix that stands for each, without its dot, and ``sheet``, a contact sheet.

A program may add formats of its own: ``WRITERS["lrc"] = Writer(to_lrc)``.
"""

SUMMARY_WRITERS: Mapping[str, Writer] = ChainMap(
    {
        "json": Writer("text.json.to_object", many_videos=True),
        "jsonl": Writer("text.json.to_jsonl", many_videos=True),
        "txt": Writer("text.terminal.to_table"),
        "mp4": Writer("registry.save_reel", ("footage", "pad", "progress"), text=False),
    },
    WRITERS,
)
"""Formats of summaries; those that are also in `WRITERS` write the shots as the moments of an answer."""


@dataclass(frozen=True)
class Target:
    """A file to write, `STDOUT` for standard output, and its format."""

    path: str
    form: str
    writer: Writer

    def part(self, labels: Sequence[str], *, always: bool = False) -> list[Target]:
        """A target for each of several videos, named by their labels, if the format is about one; else this one.

        Example:
            >>> [target.path for target in find_target("out/a.srt").part(["trip", "cat"])]
            ['out/a-trip.srt', 'out/a-cat.srt']
        """
        if self.writer.many_videos or (len(labels) < 2 and not always):
            return [self]
        if self.path == STDOUT:
            raise OutputError(
                f"{self.form} is about one video, not {len(labels)}: write it to files, -o FILE.{self.form}"
            )
        path = Path(self.path)
        return [replace(self, path=str(path.with_stem(f"{path.stem}-{label}"))) for label in labels]

    def list_files(self, queries: int) -> list[str]:
        """Names of the files: one, or a numbered one for each query."""
        if not self.writer.per_query or queries == 1:
            return [self.path]
        path = Path(self.path)
        return [str(path.with_stem(f"{path.stem}-{number}")) for number in range(1, queries + 1)]

    def split(self, results: Sequence[Any]) -> list[tuple[Target, Sequence[Any]]]:
        """Pairs each file with the results that it holds."""
        parts = [[result] for result in results] if self.writer.per_query else [results]
        return [(replace(self, path=f), p) for f, p in zip(self.list_files(len(results)), parts, strict=True)]

    def check(self, queries: int, *, force: bool) -> None:
        """Checks, before a long computation, that the files may be written and the format's extra is installed."""
        self.writer.load()
        for file in self.list_files(queries):
            if file != STDOUT:
                check_target(file, force=force)


def find_target(text: str, *, summary: bool = False) -> Target:
    """Finds the format of ``FILE`` by its suffix; ``FORMAT:FILE`` names it, as for stdout and contact sheets.

    Examples:
        >>> find_target("trip.SRT").form, find_target("csv:-").path, find_target("sheet:trip.png").form
        ('srt', '-', 'sheet')
    """
    writers = SUMMARY_WRITERS if summary else WRITERS
    form, colon, path = text.partition(":")
    if not colon or form.lower() not in writers:
        form, path = "", text
    suffix = Path(path).suffix
    form = (form or suffix[1:]).lower()
    if path == STDOUT and not form:
        raise OutputError(f"{text} is stdout, which has no suffix: name the format too, such as json:-")
    if form not in writers:
        ending = f"ends in {suffix}" if suffix else "has no suffix"
        known = ", ".join(f".{name}" for name in writers if name != "sheet")
        raise OutputError(f"{path} {ending}, which names no format: use {known}, or write FORMAT:FILE")
    writer = writers[form]
    allowed = PICTURES if form == "sheet" else (form,)
    if not writer.text and suffix[1:].lower() not in allowed:
        endings = " or ".join(f".{name}" for name in allowed)
        raise OutputError(f"{path} cannot hold the format {form}: let its name end in {endings}")
    return Target(path, form, writer)


def write_format(results: Results, form: str, video: VideoInfo | None = None, **options: Any) -> str:
    """Writes results in a format that is text and can be encoded as UTF-8.

    Args:
        results: Answers or summaries, about one video unless the format takes several.
        form: A name of `WRITERS`.
        video: Facts about the video, for formats that count frames; read from the file by default.
        options: See `save_results`.

    Examples:
        >>> import numpy as np
        >>> from r2tuning.results import Grounding
        >>> from r2tuning.types import Moment, Saliency
        >>> curve = Saliency(np.zeros(0), np.zeros(0))
        >>> answer = Grounding("a dog", "trip.mp4", 8.0, 0.0, [Moment(2.0, 6.0, 0.875)], curve, "demo", "exact")
        >>> print(write_format([answer], "srt"), end="")
        1
        00:00:02,000 --> 00:00:06,000
        a dog (0.88)
        <BLANKLINE>
    """
    from r2tuning.results import Summary

    writer = (SUMMARY_WRITERS if results and isinstance(results[0], Summary) else WRITERS)[form]
    shown = _prepare(results, form, writer)
    names: Mapping[str, str] = options.get("names") or {}
    if not writer.framed:
        return str(writer.load()(rename_videos(shown, names), **_choose(writer, options)))
    from r2tuning.video import probe

    try:
        if video is None:
            shown[0].check_video()
            video = probe(shown[0].video)
        if options.get("timecode") == "zero":
            video = replace(video, timecode=None)
        if name := names.get(shown[0].video):
            options["reference"] = quote(os.fsencode(PurePosixPath(name).name))  # names need not be UTF-8
        return str(writer.load()(shown, video, **_choose(writer, options)))
    except VideoError as error:
        raise OutputError(f"{error} ({form} counts frames, so it needs the video and not only features)") from error


def save_results(results: Results, target: Target, *, force: bool = False, **options: Any) -> None:
    """Writes results to a file, or to one for each query.

    Formats take the options that they know: ``top``, most rows or peaks of an answer; ``embed``, whether a page holds
    the video; ``footage``, the video if it is open; ``pad``, seconds that a reel shows before and after each moment;
    ``progress``, called with the frames written and expected; ``names``, what stands for the paths of videos in the
    file, by path: edit lists then refer to a video by its bare name, so that it must lie beside them;
    ``timecode``, ``zero`` to count the frames of edit lists from the first one although the video has timecode.
    """
    for single, part in target.split(results):
        if single.writer.text:
            write_atomically(single.path, write_format(part, single.form, **options), force=force)
        else:
            shown = _prepare(part, single.form, single.writer)
            single.writer.load()(shown, single.path, force=force, **_choose(single.writer, options))


def _prepare(results: Results, form: str, writer: Writer) -> list[Any]:
    """Checks the results; summaries become answers if the format cannot hold them."""
    from r2tuning.results import Summary

    answers = [result.answer if isinstance(result, Summary) else result for result in results]
    if not writer.many_videos and len(videos := {answer.video for answer in answers}) > 1:
        raise ValueError(f"{form} is about one video, not {len(videos)}: write a file for each")
    for moment in (moment for result in results for moment in list_moments(result)):
        if not all(math.isfinite(value) for value in (moment.start, moment.end, moment.score)):
            raise OutputError(f"result holds {moment}: check the video features and the checkpoint for damage")
    if writer is WRITERS.get(form):
        # Moments are best first; an edit keeps the order of time.
        order: Callable[[Moment], float] = (lambda m: m.start) if writer.framed else (lambda m: -m.score)
        return [replace(r.answer, moments=sorted(r.shots, key=order)) if isinstance(r, Summary) else r for r in results]
    return list(results)


def rename_videos(results: Results, names: Mapping[str, str]) -> list[Any]:
    """The results with what stands for the paths of their videos, which then need not be there.

    Example:
        >>> import numpy as np
        >>> from r2tuning.results import Grounding
        >>> from r2tuning.types import Saliency
        >>> answer = Grounding("a", "/home/me/a.mp4", 8.0, 0.0, [], Saliency(np.zeros(0), np.zeros(0)), "demo", "exact")
        >>> [one.video for one in rename_videos([answer], {"/home/me/a.mp4": "trips/a.mp4"})]
        ['trips/a.mp4']
    """
    from r2tuning.results import Summary

    def rename(result: Any) -> Any:
        if isinstance(result, Summary):
            return replace(result, answer=rename(result.answer))
        return replace(result, video=names.get(result.video, result.video))

    return [rename(result) for result in results] if names else list(results)


def list_moments(result: Grounding | Summary) -> list[Moment]:
    """The moments of an answer, or the shots of a summary."""
    return result.shots if hasattr(result, "shots") else result.moments


def _choose(writer: Writer, options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in writer.options}


def save_gif(results: Sequence[Grounding], path: str, *, force: bool, footage: Footage | None = None) -> None:
    """Writes the best moment as an animated picture."""
    from r2tuning.output.media.gif import write_gif

    (result,) = results
    if not result.moments:
        raise OutputError(f"{path} cannot be written: the answer has no moment to show")
    best = result.moments[0]
    if footage is None:
        result.check_video()
    write_gif(footage or result.video, best.start, best.end, path, force=force)


def save_reel(
    results: Results,
    path: str,
    *,
    force: bool,
    footage: Footage | None = None,
    pad: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Joins the moments of all answers, video by video, each in order of time, what they share once, with sound."""
    from r2tuning.output.media.cut import join
    from r2tuning.results import Summary

    spans: dict[str, list[tuple[float, float]]] = {}
    for result in (result for result in results if list_moments(result)):
        answer = result.answer if isinstance(result, Summary) else result
        if footage is None and answer.video not in spans:
            answer.check_video()
        here = spans.setdefault(answer.video, [])
        here += [(moment.start - pad, moment.end + pad) for moment in list_moments(result)]
    if not spans:
        raise OutputError(f"{path} cannot be written: the answer has no moment to show")
    parts = [(footage or video, of_video) for video, of_video in spans.items()]
    join(parts, Path(path), force=force, progress=progress)
