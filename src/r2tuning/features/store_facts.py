"""What all features of a store have in common, kept beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from r2tuning import __version__
from r2tuning.backbones import ClipBackbone
from r2tuning.errors import FeatureError
from r2tuning.features.writing import replace_file
from r2tuning.types import Engine
from r2tuning.video.preprocess import PREPROCESS_VERSION

STORE_FILE = "store.json"

Layout = Literal["own", "npy"]
"""``own``: safetensors with their facts; ``npy``: the authors' arrays."""


class StoreFacts(BaseModel):
    """What all features that r2tuning put into a store have in common.

    Attributes:
        layout: How they lie in the folder.
        backbone: Hub name or folder of the CLIP.
        fingerprint: Of the CLIP's weights.
        layers: K.
        tokens: P + 1.
        video_width: Dv.
        query_width: Dq.
        preprocess_version: Of the preparation of frames.
        created_with: Version of r2tuning.
        engine: What ran the CLIP over videos.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Layout
    backbone: str
    fingerprint: str
    layers: int = Field(gt=0)
    tokens: int = Field(gt=1)
    video_width: int = Field(gt=0)
    query_width: int = Field(gt=0)
    preprocess_version: int
    created_with: str
    engine: Engine = "torch"

    @classmethod
    def of(cls, backbone: ClipBackbone, layout: Layout) -> StoreFacts:
        """What features made now by a backbone have in common."""
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
        )

    @classmethod
    def read(cls, folder: Path) -> StoreFacts:
        """Reads the facts of a store.

        Raises:
            FeatureError: If they are damaged or of a newer r2tuning.
        """
        path = folder / STORE_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise FeatureError(f"{path}: cannot be read: {error.strerror or error}; check the folder") from error
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"])) or "content"
            raise FeatureError(
                f"{path}: {field}: {problem['msg']}; upgrade r2tuning if it is older than the store, "
                "or extract into a new folder"
            ) from error

    def write(self, folder: Path) -> None:
        """Writes the facts of a store, whose folder must exist."""
        with replace_file(folder / STORE_FILE) as part:
            part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def check_continues(self, old: StoreFacts, folder: Path) -> None:
        """Checks that features described by this may join those of a store.

        The preparation of frames may have changed since: features made before are then out of date, one by one.

        Raises:
            FeatureError: If the store is of another layout, or its features come from another CLIP.
        """
        ways_out = "choose a new folder, or give the same --backbone, --layers, --engine and --format"
        if self.fingerprint != old.fingerprint:
            raise FeatureError(
                f"{folder}: has features of another CLIP ({old.backbone}, not {self.backbone}); {ways_out}"
            )
        # The name may be another: folders move. For arrays it is part of their folders' names.
        for what in ("layout", "engine", "layers", "tokens", "video_width", "query_width"):
            if getattr(self, what) != getattr(old, what):
                raise FeatureError(
                    f"{folder}: has features of {what} {getattr(old, what)}, not {getattr(self, what)}; {ways_out}"
                )
