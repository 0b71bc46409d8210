"""What the tools of an assistant take and give: the fields of the API, and what only an assistant needs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from r2tuning.server.schemas import (
    LATEST,
    Asked,
    FilteredIn,
    FoundOut,
    GroundIn,
    HighlightsIn,
    HitsOut,
    MomentOut,
    Seconds,
    Text,
    VideoId,
    VideoOut,
)

VideoName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="A video of the library by its id or name, or the path of a file in a folder that may be read, "
        "absolute or from the name of that folder on.",
        examples=["e6d3ac6a4cc7d53b", "videos/2024/trip.mp4"],
    ),
]


class SearchLibraryIn(FilteredIn):
    """Sentences to search the library for."""

    queries: list[Text] = Field(
        min_length=1, max_length=20, description="Sentences that each describe what is seen; each gets its own hits."
    )
    top: int = Field(10, ge=1, le=200, description="Most hits for a sentence.")

    @model_validator(mode="after")
    def _one_page(self) -> SearchLibraryIn:
        if self.after and len(self.queries) > 1:
            raise ValueError("after goes with one query")
        return self


class SearchedOut(HitsOut):
    """The hits for a sentence, best first."""

    verdict: str = Field(description="Whether the videos show it, in words.")


class SearchLibraryOut(BaseModel):
    """The hits for each sentence."""

    searches: list[SearchedOut]


class FindMomentsIn(GroundIn):
    """Sentences to look for in one video."""

    video: VideoName


class FindMomentsOut(BaseModel):
    """The moments for each sentence."""

    answers: list[FoundOut]


class DescribeVideoIn(HighlightsIn):
    """A video, and what to say of it besides its facts."""

    video: VideoName
    highlights: bool = Field(
        True, description="Whether to find the best seconds. A video that is not in the library is encoded for this."
    )
    summary: float | None = Field(
        None, ge=0.1, le=LATEST, description="Seconds of a summary to make; null for none. It reads the whole video."
    )


class FileOut(BaseModel):
    """Facts about a video file."""

    bytes: int
    duration: float = Field(description="Seconds.")
    start: float = Field(description="Seconds on the player's clock at which it begins.")
    width: int = Field(description="Pixels, as displayed.")
    height: int
    frame_rate: float
    variable_frame_rate: bool
    codec: str = Field(examples=["h264"])
    has_audio: bool


class DescribeVideoOut(BaseModel):
    """A video."""

    video: VideoId
    name: str
    library: VideoOut | None = Field(description="Its state in the library; null if it is not in it.")
    file: FileOut | None = Field(description="Null if the file is not there or cannot be read.")
    highlights: list[MomentOut] = Field(description="Its best seconds, best first.")
    summary: list[MomentOut] = Field(description="Shots that sum it up, in time order.")
    notes: list[str] = Field(description="Why something is missing.")


class CutClipIn(Asked):
    """A clip to write."""

    video: VideoName
    start: Seconds = Field(description="Seconds on the player's clock, as answers have them.")
    end: Seconds
    name: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        description="Of the file, without a folder; by default made of the video's name and the times.",
        examples=["goal.mp4"],
    )
    fast: bool = Field(False, description="Copy it as stored, from the key frame before the start on.")

    @model_validator(mode="after")
    def _ordered(self) -> CutClipIn:
        if not self.start < self.end:
            raise ValueError("end must be after start")
        return self


class ClipOut(BaseModel):
    """A clip that was written."""

    path: str = Field(description="Of the new file on this machine.")
    video: VideoId
    name: str = Field(description="Of the video.")
    start: float = Field(description="Seconds in the video at which the clip begins.")
    duration: float
    bytes: int
