"""Moments as an OpenTimelineIO timeline, which editing programs and pipelines exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from opentimelineio.adapters import write_to_string
from opentimelineio.opentime import RationalTime, TimeRange
from opentimelineio.schema import Clip, ExternalReference, Gap, Timeline, Track, TrackKind

from r2tuning.errors import show_on_one_line
from r2tuning.output.text.edits import Source
from r2tuning.results import Grounding
from r2tuning.types import VideoInfo


def to_otio(results: Sequence[Grounding], video: VideoInfo, *, reference: str | None = None) -> str:
    """Writes the moments as clips that follow each other, best first, on a track for each query and one for its sound.

    Clips count frames by the video's timecode, else from its first one, which is 0. Their metadata hold, under
    ``r2tuning``, query, rank and score, and start and end in seconds on the player's clock; those of tracks hold query
    and notes. The ``reference`` to the video is as in `Source`.
    """
    source = Source(video, reference)
    timeline = Timeline(source.name)
    for kind in (TrackKind.Video, TrackKind.Audio) if video.has_audio else (TrackKind.Video,):
        position = 0
        for result, cuts in zip(results, source.cut(results), strict=True):
            about = {"query": show_on_one_line(result.query), "notes": [asdict(note) for note in result.notes]}
            track = Track(about["query"], kind=kind, metadata={"r2tuning": about})
            if position:
                track.append(Gap(source_range=_span(source, 0, position)))
            for rank, cut in enumerate(cuts, start=1):
                facts = {"query": cut.query, "rank": rank, "score": float(cut.moment.score)}
                facts |= {"start": float(cut.moment.start), "end": float(cut.moment.end)}
                media = ExternalReference(source.url, _span(source, source.begin, source.length))
                extent = _span(source, cut.first, cut.length)
                track.append(Clip(cut.label, media, extent, metadata={"r2tuning": facts}))
                position += cut.length
            timeline.tracks.append(track)
    return str(write_to_string(timeline, "otio_json")) + "\n"


def _span(source: Source, first: int, length: int) -> TimeRange:
    rate = float(source.rate)
    return TimeRange(RationalTime(first, rate), RationalTime(length, rate))
