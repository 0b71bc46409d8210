"""``config.json`` of a checkpoint folder: all that is needed to answer a query beside the weights."""

from pydantic import BaseModel, ConfigDict, Field

from r2tuning.decoding.config import DecodingConfig
from r2tuning.model.config import R2Config

FORMAT_VERSION = 1
"""Raised whenever a folder written today could not be read by yesterday's code."""


class Provenance(BaseModel):
    """Where the weights come from.

    Attributes:
        source: File or URL the weights were converted from, or the recipe they were trained with.
        sha256: Hash of that file, where there is one.
        created_with: The r2tuning version that wrote the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    sha256: str | None = None
    created_with: str


class CheckpointConfig(BaseModel):
    """Everything a checkpoint folder says about its weights.

    Attributes:
        format_version: Of the folder's layout.
        name: Shown in results, such as ``qvhighlights``.
        model: Shape of the model.
        backbone: Hub name or folder of the frozen CLIP whose features the model reads.
        fps: Frames per second the model was trained with.
        window: Seconds; longer videos are covered by overlapping windows of this length.
        decoding: Rounding and suppression of moments.
        provenance: Where the weights come from.

    Raises:
        pydantic.ValidationError: If a field is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: int = Field(default=FORMAT_VERSION, ge=1)
    name: str = Field(min_length=1)
    model: R2Config
    backbone: str = Field(min_length=1)
    fps: float = Field(gt=0)
    window: float = Field(gt=0)
    decoding: DecodingConfig
    provenance: Provenance
