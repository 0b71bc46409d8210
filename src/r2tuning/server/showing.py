"""What the library, the model and the jobs say, as the API shows it: ids and names in place of paths."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from r2tuning.library.hits import Hits
from r2tuning.library.records import Listed
from r2tuning.server.asking import Search
from r2tuning.server.collection import Collection, Contents, make_id
from r2tuning.server.jobs import Job
from r2tuning.server.schemas import AnswerOut, FilteredIn, HitsOut, JobOut, VideoOut


def to_time(seconds: float) -> datetime:
    """A time of the system."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def to_video(number: str, listed: Listed, contents: Contents, collection: Collection) -> VideoOut:
    """A file as the API shows it."""
    file, video = listed.file, listed.video
    same = contents.same[file.identity] if file.identity else []
    return VideoOut(
        id=number,
        name=collection.name(file.path),
        state=listed.state,
        reason=collection.hide(file.reason),
        size=file.size,
        changed=to_time(file.mtime_ns / 1e9),
        added=to_time(file.added),
        duration=None if video is None else round(video.duration, 3),
        start=None if video is None else round(video.start, 3),
        fps=None if video is None else video.fps,
        damaged=None if video is None else video.truncated,
        copies=[one for one in same if one != number],
    )


def to_job(job: Job) -> JobOut:
    """A job as the API shows it."""
    return JobOut(
        id=job.id,
        kind=job.kind,
        subject=job.subject,
        state=job.state,
        progress=job.progress,
        error=job.error,
        result=job.result or None,
        created=to_time(job.created),
        started=None if job.started is None else to_time(job.started),
        ended=None if job.ended is None else to_time(job.ended),
    )


def to_search(
    asked: FilteredIn,
    collection: Collection,
    query: str | None,
    like: tuple[str, float, float] | None = None,
    picture: bytes | None = None,
) -> Search:
    """A search for one query, moment or picture, as the worker takes it."""
    return Search(
        query=query,
        like=like,
        picture=picture,
        without=tuple(asked.without),
        top=asked.top,
        within=None if asked.within is None else collection.to_pattern(asked.within),
        since=None if asked.since is None else asked.since.timestamp(),
        min_duration=asked.min_duration,
        threshold=asked.threshold,
        after=asked.after,
    )


def show_hits(hits: Hits, collection: Collection) -> HitsOut:
    """A page of hits, with ids in place of paths."""
    shown = hits.to_dict()
    for hit in shown["hits"]:
        hit["name"] = collection.name(hit["video"])
        hit["video"] = make_id(hit["video"])
        hit["copies"] = [make_id(path) for path in hit["copies"]]
    return HitsOut.model_validate(shown)


def show_answer(answer: dict[str, Any], collection: Collection) -> AnswerOut:
    """An answer, with an id in place of a path."""
    path = answer["video"]
    return AnswerOut.model_validate(answer | {"video": make_id(path), "name": collection.name(path)})
