"""Which videos and queries a command was given, and how it goes through them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from r2tuning.cli import options
from r2tuning.errors import DataError, R2TuningError, VideoError
from r2tuning.files import MOST_SETTINGS, file_name, find_videos, guard, read_file
from r2tuning.types import VIDEO_SUFFIXES, Engine, Sampling

if TYPE_CHECKING:
    from r2tuning.features import EncodedVideo
    from r2tuning.grounder import Grounder

Result = TypeVar("Result")

WordsArgument = Annotated[
    list[str],
    typer.Argument(
        help="A video file, features saved with --save-features, or a folder of videos; then the queries. With -q or "
        "--queries, all words are videos.",
        metavar="VIDEO… [QUERY…]",
        show_default=False,
    ),
]
QueryOption = Annotated[
    str | None,
    typer.Option("--query", "-q", help="What to look for; all other words are then videos.", metavar="QUERY"),
]
QueryOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--query", "-q", help="What to look for; all other words are then videos. May be repeated.", metavar="QUERY"
    ),
]
QueriesOption = Annotated[
    Path | None,
    typer.Option("--queries", help="Text file with a query on each line; all other words are then videos."),
]


@dataclass
class Request:
    """The videos and queries of a command, and those videos that failed so far, with the reason.

    ``folders`` are those that the videos are in, if no single video was given.
    """

    videos: list[str]
    queries: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """A name for each video that is no other's, for the files that are about it: its own without ending.

        Example:
            >>> Request(["a/trip.mp4", "b/trip.mkv", "cat.mp4"], []).labels
            ['trip-1', 'trip-2', 'cat']
        """
        stems = [file_name(Path(video).stem, "") for video in self.videos]
        return [
            f"{stem}-{stems[: i + 1].count(stem)}" if stems.count(stem) > 1 else stem for i, stem in enumerate(stems)
        ]

    def go_through(self, work: Callable[[str, str], Result], *, every: bool = False) -> Iterator[tuple[str, Result]]:
        """Does the work on each video that has not failed; yields its label with the result.

        ``work`` takes the video and what to call the step. Where there are several videos, one that fails is left out;
        `finish` lists it. With ``every``, one fails as another does.
        """
        for number, (video, label) in enumerate(zip(self.videos, self.labels, strict=True), start=1):
            if video in self.failed:
                continue
            several = len(self.videos) > 1
            step = f"{number}/{len(self.videos)} {Path(video).name}" if several else ""
            try:
                result = work(video, step)
            except R2TuningError as error:
                if not several:
                    raise
                self.failed[video] = str(error)
                continue
            yield label, result
        if not every and len(self.failed) == len(self.videos):
            self.finish()

    def finish(self) -> None:
        """Lists the videos that failed, if any, and raises an error for them."""
        if not self.failed:
            return
        for video, reason in self.failed.items():
            typer.echo(f"left out: {reason if video in reason else f'{video}: {reason}'}", err=True)
        raise VideoError(f"{len(self.failed)} of {len(self.videos)} videos could not be used; they are listed above")


def read_request(
    command: str, words: Sequence[str], given: Sequence[str], queries_file: Path | None = None, *, needed: bool = True
) -> Request:
    """Tells videos from queries: without ``given`` queries or a file of them, the first word is the video.

    Where no query is ``needed``, words that are all files are videos, and one query may follow the video.
    """
    queries = [*given, *(read_queries(queries_file) if queries_file is not None else ())]
    videos = list(words)
    if not queries and not (not needed and all(map(_is_place, words))):
        videos, queries = list(words[:1]), list(words[1:])
        _refuse_files(command, words)
        if not needed and len(queries) > 1:
            raise typer.BadParameter(f"give one query, not {len(queries)}; put it in quotes", param_hint="QUERY")
    if needed and not queries:
        raise typer.BadParameter('say what to look for, such as "a dog"; or give -q QUERY', param_hint="QUERY")
    folders = videos if all(os.path.isdir(video) for video in videos) else []  # noqa: PTH112
    return Request(_list_videos(videos), queries, folders=folders)


def read_queries(path: Path) -> list[str]:
    """The queries of a text file, one on each line; blank lines are skipped."""
    content = read_file(path, DataError, "check the path", MOST_SETTINGS)
    with guard(path, DataError, "save the file as UTF-8 text"):
        text = content.decode("utf-8-sig")
    queries = [line.strip() for line in re.split(r"\r\n|[\r\n]", text) if line.strip()]
    if not queries:
        raise DataError(f"{path}: has no queries; write one on each line")
    return queries


def _is_place(word: str) -> bool:
    return os.path.isfile(word) or os.path.isdir(word)  # noqa: PTH112, PTH113  (a query may be too long for a path)


def _refuse_files(command: str, words: Sequence[str]) -> None:
    """Refuses files among the queries: several videos are given otherwise."""
    endings = {*VIDEO_SUFFIXES, options.FEATURE_SUFFIX}

    def is_file(word: str) -> bool:
        missing = " " not in word and Path(word).suffix.lower() in endings
        return missing or os.path.isfile(word) or (word.endswith(("/", os.sep)) and os.path.isdir(word))  # noqa: PTH112, PTH113

    files = [word for word in words[1:] if is_file(word)]
    if not files:
        return
    queries = [word for word in words[1:] if word not in files] or ["QUERY"]
    videos = " ".join(map(_quote, [words[0], *files]))
    asked = " ".join(f"-q {_quote(query)}" for query in queries)
    raise typer.BadParameter(
        f"{files[0]} is a file, not a query; for several videos write: r2tuning {command} {videos} {asked}",
        param_hint="QUERY",
    )


def _quote(word: str) -> str:
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else '"' + re.sub(r'(["\\$`])', r"\\\1", word) + '"'


def _list_videos(words: Sequence[str]) -> list[str]:
    """The videos, each once: files as they are, and those in folders and their subfolders, sorted."""
    found: dict[str, str] = {}
    for word in words:
        if word == "-" or re.match(r"[a-zA-Z][\w+.-]+://", word):
            what = "stdin" if word == "-" else word
            raise VideoError(f"{what}: r2tuning reads local files only; save the video to a file first")
        for video in _list_folder(word) if os.path.isdir(word) else [word]:  # noqa: PTH112
            found.setdefault(os.path.realpath(video), video)
    return list(found.values())


def _list_folder(folder: str) -> list[str]:
    found = find_videos(folder)
    if not found:
        raise VideoError(f"{folder}: has no videos; give a folder with files such as .mp4, .mkv, .mov or .webm")
    return found


def open_model(
    request: Request,
    model: str,
    backbone: str | None,
    device: str | None,
    engine: Engine | None = None,
    moved: str | None = None,
) -> Grounder:
    """Checks the videos, then loads the model; what must be downloaded is announced first."""
    if moved is not None and not (len(request.videos) == 1 and request.videos[0].endswith(options.FEATURE_SUFFIX)):
        raise typer.BadParameter("is for one file of saved features; give videos themselves", param_hint="--video")
    from r2tuning.checkpoints.resolve import find_missing

    missing = find_missing(model, backbone)
    for _ in request.go_through(lambda video, _: _check_video(video, whole=bool(missing))):
        pass
    options.announce_download(model, backbone)
    return options.load_model(model, backbone, device, engine)


def _check_video(video: str, *, whole: bool) -> None:
    """Checks a video before a model is loaded; before a download, by reading all its timestamps and a frame."""
    if video.endswith(options.FEATURE_SUFFIX):
        if not Path(video).is_file():
            raise VideoError(f"{video}: no such file; make it with --save-features")
        return
    from r2tuning.video import probe
    from r2tuning.video.container import open_video

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # encoding the video says it again
        if whole:
            probe(video)
        else:
            with open_video(video):
                pass


def encode(
    grounder: Grounder,
    video: str,
    step: str = "",
    fps: float | None = None,
    sampling: Sampling = "exact",
    moved: str | None = None,
) -> EncodedVideo:
    """Encodes a video, or opens one that was saved, whose file may have ``moved``."""
    from r2tuning.features import EncodedVideo

    if video.endswith(options.FEATURE_SUFFIX):
        return EncodedVideo.load(video, moved)
    with options.show_progress(f"Encoding {step}".rstrip(), "frames", line=step) as progress:
        return grounder.encode(video, fps=fps, sampling=sampling, progress=progress)
