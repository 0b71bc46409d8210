"""Moments as an OpenTimelineIO timeline, which editing programs and pipelines exchange."""

from __future__ import annotations

from collections.abc import Sequence

from opentimelineio.adapters import write_to_string
from opentimelineio.opentime import RationalTime, TimeRange
from opentimelineio.schema import Clip, ExternalReference, Gap, Timeline, Track, TrackKind

from r2tuning.output.text.edits import Source
from r2tuning.output.text.labels import show_on_one_line
from r2tuning.results import Grounding
from r2tuning.types import VideoInfo


def to_otio(results: Sequence[Grounding], video: VideoInfo) -> str:
    """Writes the moments as clips that follow each other, query after query, best first.

    Each query has a track of its own, and one more for its sound if the video has any. Clips count frames from the
    first one of the video, which is 0. Their metadata hold, under ``r2tuning``, query, rank and score, and start and
    end in seconds as a player shows them.
    """
    source = Source.of(video)
    timeline = Timeline(source.name)
    for kind in (TrackKind.Video, TrackKind.Audio) if video.has_audio else (TrackKind.Video,):
        position = 0
        for result in results:
            track = Track(show_on_one_line(result.query), kind=kind)
            if position:
                track.append(Gap(source_range=_span(source, 0, position)))
            track.extend(_make_clips(source, result))
            position += sum(cut.length for cut in source.cut(result))
            timeline.tracks.append(track)
    return str(write_to_string(timeline, "otio_json")) + "\n"


def _make_clips(source: Source, result: Grounding) -> list[Clip]:
    clips = []
    for rank, (cut, moment) in enumerate(zip(source.cut(result), result.moments, strict=True), start=1):
        facts = {"query": show_on_one_line(result.query), "rank": rank, "score": float(moment.score)}
        times = {"start": float(moment.start), "end": float(moment.end)}
        media = ExternalReference(source.url, _span(source, 0, source.length))
        clip = Clip(cut.label, media, _span(source, cut.first, cut.length), metadata={"r2tuning": facts | times})
        clips.append(clip)
    return clips


def _span(source: Source, first: int, length: int) -> TimeRange:
    rate = float(source.rate)
    return TimeRange(RationalTime(first, rate), RationalTime(length, rate))
