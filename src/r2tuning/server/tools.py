"""The tools of an assistant: search the library, find moments, describe a video, cut a clip."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from r2tuning.errors import R2TuningError, RequestError
from r2tuning.files import file_name
from r2tuning.library.hits import Hits
from r2tuning.library.records import Listed
from r2tuning.server.asking import Ground, Outline, Peaks, start_answers
from r2tuning.server.collection import Collection, make_id
from r2tuning.server.desk import Desk, check_space
from r2tuning.server.long_tasks import Bench, Clip, Cut, Report, SumUp
from r2tuning.server.pictures import Probe, start_pictures
from r2tuning.server.problems import Refused
from r2tuning.server.schemas import FoundOut, MomentOut
from r2tuning.server.settings import Settings
from r2tuning.server.showing import show_answer, show_hits, to_search, to_video
from r2tuning.server.tool_schemas import (
    ClipOut,
    CutClipIn,
    DescribeVideoIn,
    DescribeVideoOut,
    FileOut,
    FindMomentsIn,
    FindMomentsOut,
    SearchedOut,
    SearchLibraryIn,
    SearchLibraryOut,
)
from r2tuning.types import VideoInfo


@dataclass(frozen=True)
class Named:
    """A video that a client named.

    Attributes:
        id: As the API has it.
        path: Of the file.
        listed: What the library knows of it; None if it is not in it.
    """

    id: str
    path: str
    listed: Listed | None


class Tools:
    """Does what an assistant asks for. Its processes start with the first question that needs them.

    Args:
        settings: What is served; files are read below its roots only.
        clips: Folder of the clips, links followed; made with the first.
    """

    def __init__(self, settings: Settings, clips: Path) -> None:
        self._desk = Desk(settings, Collection(settings), start_answers(settings), start_pictures())
        self._collection = self._desk.collection
        self._encoding = Bench("encoding", settings)
        self._cutting = Bench("cutting", settings)
        self._clips = clips
        self._files: dict[str, str] = {}  # paths of files that are not in the library, by the ids that were told
        self._started = False
        self._ending: asyncio.Future[Any] | None = None

    def hide(self, text: str) -> str:
        """A message without places on the disk."""
        return self._collection.hide(text)

    async def stop(self) -> None:
        """Ends the processes; who calls it again waits for the first."""
        if self._ending is None:
            workers = (self._encoding, self._cutting, self._desk.answers, self._desk.pictures)
            self._ending = asyncio.gather(*(worker.stop() for worker in workers))
        await asyncio.shield(self._ending)

    async def search_library(self, asked: SearchLibraryIn, report: Report) -> SearchLibraryOut:  # noqa: ARG002
        """Find the moments of all videos of the library that match a sentence, best first, with start and end.

        Describe what is seen, such as "a dog catches a frisbee". If `present` is false, the videos probably do not show
        it, and the hits are only the nearest guesses: say so. Times are seconds.
        """
        self._start()
        questions = [to_search(asked, self._collection, query) for query in asked.queries]
        pages = await asyncio.gather(*(self._desk.ask(question) for question in questions))
        shown = [show_hits(cast(Hits, page), self._collection) for page in pages]
        return SearchLibraryOut(
            searches=[SearchedOut(**page.model_dump(), verdict=judge(page.present)) for page in shown]
        )

    async def find_moments(self, asked: FindMomentsIn, report: Report) -> FindMomentsOut:
        """Find the moments of one video that match a sentence, and whether it shows it at all.

        If `present` is false, the video probably does not show it; the moments are only the nearest guesses: say so.
        A file that is not in the library is encoded first, which takes a while; further questions about it are quick.
        """
        video = await self._find(asked.video)
        question = Ground(video.path, tuple(asked.queries), asked.top, asked.threshold, asked.overlapping)
        shown = [show_answer(answer, self._collection) for answer in await self._ask(video, question, report)]
        return FindMomentsOut(answers=[FoundOut(**answer.model_dump(exclude={"saliency"})) for answer in shown])

    async def describe_video(self, asked: DescribeVideoIn, report: Report) -> DescribeVideoOut:
        """Tell the facts of a video: duration, size, codec, its state in the library, and its best seconds.

        With a query, highlights and summary show that; without one, what the video shows most and newest.
        """
        self._start()
        video = await self._find(asked.video)
        out = DescribeVideoOut(
            video=video.id,
            name=self._collection.name(video.path),
            library=None
            if video.listed is None
            else to_video(video.id, video.listed, self._collection.read(), self._collection),
            file=None,
            highlights=[],
            summary=[],
            notes=[],
        )
        try:
            out.file = await self._read_facts(video)
            if asked.highlights:
                peaks = Peaks(video.path, asked.query, asked.top, asked.seconds)
                (found,) = await self._ask(video, peaks, report)
                out.highlights = _to_moments(found["moments"])
            if asked.summary is not None:
                (answer,) = await self._ask(video, Outline(video.path, asked.query), report)
                (summary,) = cast("list[dict[str, Any]]", await self._cutting.do(SumUp(answer, asked.summary), report))
                out.summary = _to_moments(summary["shots"])
        except (R2TuningError, Refused) as error:
            if video.listed is None and out.file is None:  # there is nothing to tell
                raise
            out.notes.append(self.hide(describe_error(error)))
        return out

    async def cut_clip(self, asked: CutClipIn, report: Report) -> ClipOut:
        """Write a part of a video to a new MP4 file, with its sound, and tell its path. No file is replaced."""
        video = await self._find(asked.video)
        identity = ""
        if video.listed is not None:
            identity = (await asyncio.to_thread(self._collection.find_there, video.id)).identity
        folder = await asyncio.to_thread(self._open_clips)
        name = "" if asked.name is None else check_name(asked.name)
        task = Cut(video.path, identity, asked.start, asked.end, folder, name, asked.fast)
        clip = cast(Clip, await self._cutting.do(task, report))
        return ClipOut(
            path=clip.info.path,
            video=video.id,
            name=self._collection.name(video.path),
            start=round(clip.start, 3),
            duration=round(clip.info.duration, 3),
            bytes=Path(clip.info.path).stat().st_size,
        )

    def _start(self) -> None:
        """Starts the processes, which hold a model: assistants start servers that they may never ask."""
        if not self._started:
            self._started = True
            self._desk.answers.start()
            self._desk.pictures.start()

    async def _find(self, given: str) -> Named:
        return await asyncio.to_thread(self._find_now, given)

    def _find_now(self, given: str) -> Named:
        """The video of an id, a name or a path."""
        number = self._collection.find_named(given)
        if number is None:
            if not self._desk.settings.roots:
                raise Refused(404, f"{given}: is not in the library, and no --root was given to read files from")
            path = self._collection.resolve(self._files.get(given, given))
            number = self._collection.read().ids.get(path)
            if number is None:
                if not Path(path).is_file():
                    raise Refused(422, f"{given}: is no file; give that of a video")
                self._files[make_id(path)] = path
                return Named(make_id(path), path, None)
        listed = self._collection.find(number)
        return Named(number, listed.file.path, listed)

    async def _ask(self, video: Named, question: Ground | Outline, report: Report) -> list[dict[str, Any]]:
        if video.listed is None:
            found: Any = await self._encoding.do(question, report)
        else:
            self._start()
            await asyncio.to_thread(self._collection.find_ready, video.id)
            found = await self._desk.ask(question)
        return cast("list[dict[str, Any]]", found)

    async def _read_facts(self, video: Named) -> FileOut:
        if video.listed is not None:
            await asyncio.to_thread(self._collection.find_there, video.id)
        info = cast(VideoInfo, await self._desk.make(Probe(video.path)))
        return FileOut(
            bytes=Path(video.path).stat().st_size,
            duration=round(info.duration, 3),
            start=round(info.start, 3),
            width=info.width,
            height=info.height,
            frame_rate=round(float(info.frame_rate), 3),
            variable_frame_rate=info.variable_frame_rate,
            codec=info.codec,
            has_audio=info.has_audio,
        )

    def _open_clips(self) -> Path:
        """The folder of the clips."""
        self._clips.mkdir(parents=True, exist_ok=True)
        if Path(os.path.realpath(self._clips)) != self._clips:
            raise Refused(403, f"{self._clips.name}: has become a link to another folder; remove it")
        check_space(self._clips)
        return self._clips


def judge(present: bool | None) -> str:
    """Whether the videos show something, in words.

    Example:
        >>> judge(False)
        'Probably not in your videos; these are the nearest guesses.'
    """
    if present is None:
        return "The model cannot tell whether it is in your videos; these are the best matches."
    return "Probably in your videos." if present else "Probably not in your videos; these are the nearest guesses."


def check_name(given: str) -> str:
    """The name of a clip's file.

    Raises:
        RequestError: If it is no plain name.

    Example:
        >>> check_name("goal")
        'goal.mp4'
    """
    name = given if given.lower().endswith(".mp4") else f"{given}.mp4"
    if file_name(name, "") != name:
        raise RequestError(f"name {given!r}: is no plain name of a file; leave out slashes, percent and a leading dot")
    return name


def describe_error(error: R2TuningError | Refused) -> str:
    """The text of an error."""
    return str(error.detail) if isinstance(error, Refused) else str(error)


def _to_moments(found: list[dict[str, float]]) -> list[MomentOut]:
    return [MomentOut.model_validate(moment) for moment in found]
