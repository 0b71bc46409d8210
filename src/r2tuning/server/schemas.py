"""What the API takes and gives, checked at the door; inside there are the dataclasses of the library."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, model_validator

from r2tuning.server.exports import Format
from r2tuning.server.jobs import Kind, Progress, State

LATEST = 1e9
"""Seconds; no time in a video is later."""

Text = Annotated[str, Field(min_length=1, max_length=1000, examples=["a red circle falls"])]
VideoId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", examples=["e6d3ac6a4cc7d53b"])]
Seconds = Annotated[float, Field(ge=-LATEST, le=LATEST, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Asked(BaseModel):
    """A request; unknown fields are refused, and text in place of numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LibraryOut(BaseModel):
    """The library."""

    name: str = Field(description="Of its folder.", examples=["library"])
    changes: int = Field(description="Counts up; as long as it is the same, so is the library.")
    files: int
    videos: int = Field(description="Different ones; copies count once.")
    seconds: float
    missing: int = Field(description="Files that are not there at the moment.")
    failed: int = Field(description="Files that could not be used.")
    bytes: int = Field(description="Size of what is kept of the videos.")
    model: str | None = Field(description="Which made it; null as long as it is empty.", examples=["demo"])
    keep: str | None = Field(description="What it keeps of videos: vectors, answers or raw.", examples=["answers"])
    roots: list[str] = Field(description="Names of the folders from which videos can be added by path.")
    max_upload: int = Field(description="Bytes of a video that can be uploaded.")
    ready: bool = Field(description="Whether questions are answered at once; else the model is being loaded.")


class VideoOut(BaseModel):
    """A file of the library."""

    id: VideoId
    name: str = Field(description="From the name of its root on.", examples=["videos/2024/trip.mp4"])
    state: Literal["ready", "missing", "failed", "waiting"] = Field(
        description="waiting: it is encoded by the next rescan."
    )
    reason: str = Field(description="Why it could not be used; empty if it could.")
    size: int = Field(description="Bytes.")
    changed: datetime
    added: datetime
    duration: float | None = Field(description="Seconds; null if it is not encoded, like the next three.")
    start: float | None = Field(description="Seconds on the player's clock at which it begins.")
    fps: float | None = Field(description="Frames per second that the model saw.")
    damaged: bool | None = Field(description="Whether it ended early, or parts of it are damaged.")
    copies: list[VideoId] = Field(description="Files of the library with the same content.")


class VideosOut(BaseModel):
    """A page of the files of the library, by name."""

    total: int
    next: str = Field(description="What to send as `after` for the next page; empty after the last one.")
    videos: list[VideoOut]


class AddIn(Asked):
    """Videos to add by path."""

    path: str = Field(
        min_length=1,
        max_length=4096,
        description="File or folder below a root of the server: absolute, or from the name of the root on.",
        examples=["videos/2024"],
    )


class JobOut(BaseModel):
    """A job."""

    id: str = Field(examples=["0f3c2a9b81d4e657"])
    kind: Kind
    subject: str = Field(
        description="What it is about: the name of a file or folder, or how many videos; empty for the whole library.",
        examples=["videos/2024"],
    )
    state: State
    progress: Progress
    error: str = Field(description="Why it failed; empty if it did not.")
    result: str | None = Field(description="Name of the file to get from `/jobs/{id}/result`, if it made one.")
    created: datetime
    started: datetime | None
    ended: datetime | None


class JobsOut(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobOut]


class LikeIn(Asked):
    """A moment to find more like."""

    video: VideoId
    start: Seconds
    end: Seconds


class FilteredIn(Asked):
    """What to leave out of a search."""

    without: list[Text] = Field([], max_length=10, description="What must not be there.")
    top: int = Field(20, ge=1, le=200, description="Most hits on a page.")
    within: str | None = Field(
        None, max_length=1000, description="Only videos in this folder, or whose name fits this pattern.",
        examples=["videos/2024"],
    )  # fmt: skip
    since: datetime | None = Field(None, strict=False, description="Only files changed at this time or later.")
    min_duration: float | None = Field(None, ge=0, le=LATEST, description="Only videos of at least so many seconds.")
    threshold: Score | None = Field(None, description="Lowest score of a hit.")
    after: str = Field("", max_length=64, description="`next` of the page before, for one query.")


class SearchIn(FilteredIn):
    """A search: queries, or a moment to find more like, or a picture."""

    queries: list[Text] = Field([], max_length=20, description="Each gets its own page of hits.")
    like: LikeIn | None = None
    image: Base64Bytes | None = Field(
        None, max_length=16 * 2**20, strict=False, description="A picture file in Base64."
    )

    model_config = ConfigDict(json_schema_extra={"examples": [{"queries": ["a red circle falls"], "top": 5}]})

    @model_validator(mode="after")
    def _one_question(self) -> SearchIn:
        if sum((bool(self.queries), self.like is not None, self.image is not None)) != 1:
            raise ValueError("give one of queries, like and image")
        if self.without and not self.queries:
            raise ValueError("without goes with queries")
        if self.after and len(self.queries) > 1:
            raise ValueError("after goes with one query")
        return self


class HitOut(BaseModel):
    """A moment of a video."""

    video: VideoId
    name: str
    start: float
    end: float
    score: float = Field(description="Probability that the moment is right if `calibrated`; else it only ranks.")
    cosine: float
    refined: bool = Field(description="Whether the model found start and end; else they are those of similar frames.")
    copies: list[VideoId]


class HitsOut(BaseModel):
    """A page of hits."""

    query: str
    videos: int = Field(description="That were searched.")
    seconds: float
    calibrated: bool
    present: bool | None = Field(description="False: probably not in the videos; hits are the nearest guesses.")
    next: str = Field(description="What to send as `after` for the next page; empty after the last one.")
    hits: list[HitOut]


class SearchOut(BaseModel):
    """A page of hits for each query."""

    searches: list[HitsOut]


class GroundIn(Asked):
    """Questions about one video."""

    queries: list[Text] = Field(
        min_length=1,
        max_length=50,
        description="Sentences that each describe what is seen; each gets its own answer.",
        examples=[["a red circle falls", "a blue cross spins"]],
    )
    top: int = Field(5, ge=1, le=50, description="Most moments of an answer.")
    threshold: Score | None = Field(None, description="Lowest score of a moment.")
    overlapping: bool = Field(False, description="Whether to return the whole ranked list.")


class HighlightsIn(Asked):
    """What to look for; without a query, what the video shows most and newest."""

    query: Text | None = Field(None, description="A sentence; null for what the video shows most and newest.")
    top: int = Field(5, ge=1, le=100, description="Most highlights.")
    seconds: float | None = Field(None, ge=0.1, le=3600, description="Length of each; by default that of its peak.")


class SummaryIn(Asked):
    """What to sum up; without a query, what the video shows most and newest."""

    query: Text | None = None
    ratio: float | None = Field(None, ge=0.001, le=1, description="Share of the video; by default 0.15.")
    seconds: float | None = Field(None, ge=0.1, le=LATEST, description="How long it may last instead.")

    @model_validator(mode="after")
    def _one_budget(self) -> SummaryIn:
        if self.ratio is not None and self.seconds is not None:
            raise ValueError("give ratio or seconds, not both")
        return self


class MomentOut(BaseModel):
    """A piece of a video, seconds on the player's clock."""

    start: float
    end: float
    score: float


class NoteOut(BaseModel):
    """What limits an answer."""

    kind: str
    text: str


class CurveOut(BaseModel):
    """The highlight curve."""

    times: list[float]
    scores: list[float]


class FoundOut(BaseModel):
    """An answer but for its curve."""

    query: str
    video: VideoId
    name: str
    duration: float
    start: float
    model: str
    sampling: str
    video_truncated: bool
    query_truncated: bool
    windows: int
    calibrated: bool
    presence: float | None
    presence_threshold: float | None
    present: bool | None
    domain_warning: str
    query_warning: str
    threshold: float | None
    best_score: float | None
    identity: str
    notes: list[NoteOut]
    moments: list[MomentOut]


class AnswerOut(FoundOut):
    """An answer, with the keys of `r2tuning ground --json`; `video` is an id."""

    saliency: CurveOut


class AnswersOut(BaseModel):
    """An answer for each query."""

    answers: list[AnswerOut]


class SelectedIn(Asked):
    """A moment to export; without times, it says that the video does not show the query (`custom` only)."""

    video: VideoId
    query: str = Field("", max_length=1000)
    start: Seconds | None = None
    end: Seconds | None = None
    score: Score = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> SelectedIn:
        if (self.start is None) != (self.end is None):
            raise ValueError("give start and end, or neither")
        if self.start is not None and self.end is not None and not self.start < self.end:
            raise ValueError("end must be after start")
        return self


class ExportIn(Asked):
    """A selection of moments, perhaps corrected, and how to write them."""

    format: Format = Field(description="`custom`: annotations for `r2tuning train custom`; `clips`: a video for each.")
    moments: list[SelectedIn] = Field(min_length=1, max_length=1000)
    pad: float = Field(0.0, ge=0, le=3600, description="Seconds that clips and reels show before and after.")
    timecode: Literal["source", "zero"] = "source"
    fast: bool = Field(False, description="Copy clips as stored, from the key frame before the moment on.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"format": "srt", "moments": [{"video": "e6d3ac6a4cc7d53b", "query": "a dog", "start": 2, "end": 6.5}]}
            ]
        },
    )


class PreviewOut(BaseModel):
    """How a browser can play a video."""

    mode: Literal["native", "remux", "transcode"] = Field(
        description="native: play `/media`. Otherwise append the pieces to a SourceBuffer of type `mime`; each is an "
        "MP4 file with its own header, whose times are those of the video."
    )
    mime: str = Field(examples=['video/mp4; codecs="avc1.640028,mp4a.40.2"'])
    reason: str = Field(description="Why the file itself does not do; empty for native.")
    start: float
    duration: float
    pieces: list[float] = Field(description="When each piece begins; get it from `/preview/{number}`, from 0.")


class ModelOut(BaseModel):
    """A named model."""

    name: str
    task: Literal["moments", "saliency"]
    fps: float
    bytes: int = Field(description="About; without its backbone.")
    cached: bool
    current: bool = Field(description="Whether it made the library.")


class ModelsOut(BaseModel):
    """The named models."""

    models: list[ModelOut]


class HealthOut(BaseModel):
    """That the server runs."""

    status: Literal["ok"] = "ok"


class ReadyOut(BaseModel):
    """Whether questions are answered at once."""

    ready: bool
    waiting: int = Field(description="Questions that wait for an answer.")
    problem: str = Field(description="Why the model could not be loaded; empty if it could.")
