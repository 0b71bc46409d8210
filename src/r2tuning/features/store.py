"""Features of many videos and queries in one folder, for training and evaluation."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from torch import Tensor

from r2tuning import __version__
from r2tuning.backbones import Backbone
from r2tuning.errors import FeatureError
from r2tuning.features.encoded import EncodedVideo, EncodingFacts, Facts
from r2tuning.features.layouts import (
    QUERY,
    VIDEO,
    Kind,
    NpyFiles,
    QueryFacts,
    SafetensorsFiles,
    backbone_tag,
    find_npy_folders,
    map_array,
)
from r2tuning.files import explain, guard, read_model, remove_leftovers, write_atomically
from r2tuning.hub import identify_file
from r2tuning.processes import Shard, hold
from r2tuning.types import Engine, QueryFeatures, Sampling, Summary
from r2tuning.video.preprocess import PREPROCESS_VERSION

STORE_FILE = "store.json"

Layout = Literal["safetensors", "npy"]
"""``safetensors``: files with their facts inside; ``npy``: the authors' arrays."""

OLD_NAMES = {"own": "safetensors"}  # of layouts, in stores of earlier versions


class StoreFacts(BaseModel):
    """What all features that r2tuning put into a store share: K layers, P + 1 tokens, widths Dv and Dq, a backbone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Annotated[Layout, BeforeValidator(lambda name: OLD_NAMES.get(name, name))]
    backbone: str
    fingerprint: str
    layers: int = Field(gt=0, le=256)
    tokens: int = Field(gt=1, le=65536)
    video_width: int = Field(gt=0, le=65536)
    query_width: int = Field(gt=0, le=65536)
    preprocess_version: int
    created_with: str
    engine: Engine = "torch"
    summary: Summary = "cls"

    @classmethod
    def of(cls, backbone: Backbone, layout: Layout) -> StoreFacts:
        """The facts of features that a backbone makes now."""
        return cls(
            layout=layout,
            backbone=backbone.name,
            fingerprint=backbone.fingerprint,
            layers=backbone.layers,
            tokens=backbone.tokens_per_frame,
            video_width=backbone.video_width,
            query_width=backbone.query_width,
            preprocess_version=PREPROCESS_VERSION,
            created_with=f"r2tuning {__version__}",
            engine=backbone.engine,
            summary=backbone.summary,
        )

    @classmethod
    def read(cls, folder: Path) -> StoreFacts:
        """Reads the facts of a store."""
        advice = "upgrade r2tuning if it is older than the store, or extract into a new folder"
        return read_model(folder / STORE_FILE, cls, FeatureError, advice)

    def check_continues(self, old: StoreFacts, folder: Path) -> None:
        """Checks that features with these facts may join those of a store: the same layout and backbone.

        The preprocessing version may differ: older features are then out of date, one by one.
        """
        ways_out = "choose a new folder, or give the same --backbone, --layers, --engine and --layout"
        if self.fingerprint != old.fingerprint:
            raise FeatureError(
                f"{folder}: has features of another backbone ({old.backbone}, not {self.backbone}); {ways_out}"
            )
        # The backbone's name may differ: folders move.
        for what in ("layout", "engine", "summary", "layers", "tokens", "video_width", "query_width"):
            if getattr(self, what) != getattr(old, what):
                raise FeatureError(
                    f"{folder}: has features of {what} {getattr(old, what)}, not {getattr(self, what)}; {ways_out}"
                )


@dataclass(frozen=True)
class FeatureStore:
    """Features by name; use `open` to read a folder and `create` to fill one.

    What it returns is memory-mapped: pages are read when they are used, and processes that read the same file share
    them. The store itself holds no features, so it can be sent to worker processes. Its ``facts`` are None for the
    authors' features.
    """

    folder: Path
    files: SafetensorsFiles | NpyFiles
    layers: int
    tokens: int
    video_width: int
    query_width: int
    facts: StoreFacts | None

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """Opens a folder that `r2tuning extract` made, or one with the authors' ``*_vid_k4`` and ``*_txt_k4``."""
        folder = Path(folder)
        if (folder / STORE_FILE).is_file():
            return cls._from_facts(folder, StoreFacts.read(folder))
        pairs = find_npy_folders(folder)
        if not pairs:
            raise FeatureError(
                f"{folder}: holds no features; make them with r2tuning extract, or put the authors' folders "
                f"clip_b32_vid_k4 and clip_b32_txt_k4 there"
            )
        if len(pairs) > 1:
            names = ", ".join(f"{tag}_vid_k{layers}" for tag, layers in pairs)
            raise FeatureError(f"{folder}: holds features of several backbones ({names}); keep one of them here")
        ((tag, layers),) = pairs
        files = NpyFiles(folder, tag, layers)
        videos, queries, *_ = files.folders
        _, _, tokens, video_width = _first_shape(videos, VIDEO)
        _, _, query_width = _first_shape(queries, QUERY)
        return cls(folder, files, layers, tokens, video_width, query_width, None)

    @classmethod
    def create(cls, folder: str | Path, backbone: Backbone, layout: Layout = "safetensors") -> FeatureStore:
        """Makes a store for the features of a backbone, or opens one to add to it."""
        folder = Path(folder)
        facts = StoreFacts.of(backbone, layout)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            facts = _agree(facts, folder)
            store = cls._from_facts(folder, facts)
            for place in store.files.folders:
                place.mkdir(parents=True, exist_ok=True)
                remove_leftovers(place)
        except OSError as error:
            raise FeatureError(f"{folder}: cannot be written ({explain(error)}); choose another folder") from error
        return store

    @classmethod
    @contextmanager
    def fill(
        cls, folder: str | Path, backbone: Backbone, layout: Layout = "safetensors", shard: Shard | None = None
    ) -> Iterator[FeatureStore]:
        """Does what `create` does, and keeps other processes from filling the store, or its shard, at the same time."""
        with guard(folder, FeatureError, "choose another folder"):
            Path(folder).mkdir(parents=True, exist_ok=True)
        with hold(Path(folder), FeatureError, shard):
            yield cls.create(folder, backbone, layout)

    @classmethod
    def _from_facts(cls, folder: Path, facts: StoreFacts) -> FeatureStore:
        npy = facts.layout == "npy"
        files = NpyFiles(folder, backbone_tag(facts.backbone), facts.layers) if npy else SafetensorsFiles(folder)
        return cls(folder, files, facts.layers, facts.tokens, facts.video_width, facts.query_width, facts)

    def check_reached(self, backbone: Backbone) -> None:
        """Checks in a process elsewhere that it sees the store, and that its backbone is the same."""
        if not (self.folder / STORE_FILE).is_file():
            raise FeatureError(
                f"{self.folder}: is not on {socket.gethostname()}; put the store and the videos into a folder that all "
                f"machines share"
            )
        if self.facts is not None:
            StoreFacts.of(backbone, self.facts.layout).check_continues(self.facts, self.folder)

    def has_video(self, name: str) -> bool:
        """Whether there is a file for the video."""
        return self.files.path(VIDEO, name).is_file()

    def has_query(self, name: str) -> bool:
        """Whether there is a file for the query."""
        return self.files.path(QUERY, name).is_file()

    def video(self, name: str) -> Tensor:
        """Features of a video, fp16 ``[T, K, P+1, Dv]``, memory-mapped; an fp32 array is converted, which copies it."""
        return self._read(VIDEO, name)

    def query(self, name: str) -> Tensor:
        """Features of a query, fp16 ``[L, K, Dq]``, as `video`."""
        return self._read(QUERY, name)

    def frames(self, name: str) -> int:
        """Number of frames T of a video, without reading its features."""
        self._require(VIDEO, name)
        return self._check_shape(VIDEO, name, self.files.shape(VIDEO, name))[0]

    def video_facts(self, name: str) -> EncodingFacts | None:
        """How a video's features were made; None for the authors'."""
        return self._read_facts(VIDEO, name)

    def is_current(self, name: str, source: Path, fps: float, sampling: Sampling) -> bool:
        """Whether the store has features of a video, sampled this way and neither damaged nor older than the file."""
        try:
            facts = self.video_facts(name)
            self.frames(name)
            newer = source.stat().st_mtime_ns > self.files.path(VIDEO, name).stat().st_mtime_ns
            if facts is not None and facts.identity not in ("", identify_file(source)):
                return False
        except (FeatureError, OSError):  # a missing file is reported when it is encoded
            return False
        return facts is not None and (facts.fps, facts.sampling) == (fps, sampling) and not newer

    def has_text(self, name: str, text: str) -> bool:
        """Whether the store has a query's features, made from this text."""
        try:
            facts = self._read_facts(QUERY, name)
            self._check_shape(QUERY, name, self.files.shape(QUERY, name))
        except FeatureError:
            return False
        return facts is not None and facts.text == text

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        """Puts a video into the store, in place of an older one of that name."""
        self.files.save_video(name, encoded)

    def save_query(self, name: str, query: QueryFeatures, backbone: Backbone) -> None:
        """Puts a query into the store; ``backbone`` is the model that its features come from."""
        facts = QueryFacts(
            text=query.text, truncated=query.truncated, backbone=backbone.name, fingerprint=backbone.fingerprint
        )
        limit = torch.finfo(torch.float16).max  # as for videos
        self.files.save_query(name, query.values.clamp(-limit, limit).half().cpu().transpose(0, 1), facts)

    def _require(self, kind: Kind[Any], name: str) -> Path:
        path = self.files.path(kind, name)
        if not path.is_file():
            raise FeatureError(f"{path}: no such file; make it with r2tuning extract")
        return path

    def _read_facts(self, kind: Kind[Facts], name: str) -> Facts | None:
        path = self._require(kind, name)
        if self.facts is None:
            return None
        facts = self.files.facts(kind, name)
        made = facts and facts.model_dump(include={"fingerprint", "preprocess_version", "engine"})
        if not made or made != self.facts.model_dump(include=set(made)):
            raise FeatureError(
                f"{path}: was not made the way the store says, or not finished; run r2tuning extract again"
            )
        return facts

    def _read(self, kind: Kind[Any], name: str) -> Tensor:
        self._read_facts(kind, name)
        values = self.files.read(kind, name)
        self._check_shape(kind, name, tuple(values.shape))
        return values

    def _check_shape(self, kind: Kind[Any], name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = (self.layers, self.tokens, self.video_width) if kind is VIDEO else (self.layers, self.query_width)
        if len(shape) != len(kind.axes) or shape[0] < 1 or shape[1:] != sizes:
            raise _misshapen(self.files.path(kind, name), shape, (kind.axes[0], *sizes))
        return shape


def _agree(facts: StoreFacts, folder: Path) -> StoreFacts:
    """Writes the facts of a store, or checks that they continue it and brings them up to date.

    Of several processes that begin a store at once, one writes the facts, and the others must agree with it.
    """
    file = folder / STORE_FILE
    if not file.is_file() and not _has_files(folder):
        try:
            write_atomically(file, facts.model_dump_json(indent=2) + "\n", force=False, error=FeatureError)
        except FeatureError:
            if not file.is_file():  # otherwise another process has just begun the store
                raise
    if not file.is_file():
        raise FeatureError(f"{folder}: has files, but none of a store; choose an empty or new folder")
    old = StoreFacts.read(folder)
    facts.check_continues(old, folder)
    facts = facts.model_copy(update={"backbone": old.backbone})
    if facts != old:
        write_atomically(file, facts.model_dump_json(indent=2) + "\n", force=True, error=FeatureError)
    return facts


def _has_files(folder: Path) -> bool:
    """Whether there are visible files; empty folders are of a run that died before it wrote more."""
    return any(file.is_file() and not file.name.startswith(".") for file in folder.rglob("*"))


def _misshapen(path: Path, shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> FeatureError:
    expected = ", ".join(map(str, wanted))
    return FeatureError(f"{path}: has shape {list(shape)}, not [{expected}]; extract or download it again")


def _first_shape(folder: Path, kind: Kind[Any]) -> tuple[int, ...]:
    """Shape of the first array in a folder."""
    path = min(folder.glob("*.npy"), default=None)
    if path is None:
        raise FeatureError(f"{folder}: holds no features; unpack the archive there, or extract again")
    shape = map_array(path).shape
    if len(shape) != len(kind.axes) or min(shape) < 1:
        raise _misshapen(path, shape, kind.axes)
    return shape
