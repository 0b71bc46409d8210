"""How raw moments become an answer: part of every checkpoint's ``config.json``."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Suppression = Literal["none", "normal", "linear", "gaussian"]


class DecodingConfig(BaseModel):
    """Rounding and suppression of overlapping moments.

    Attributes:
        unit: Round starts and ends to multiples of this many seconds; None keeps them as they are.
        nms: Kind of suppression: ``normal`` drops, ``linear`` and ``gaussian`` lower the scores of overlapping moments.
        nms_threshold: IoU from which ``normal`` drops the lower-scored moment.
        nms_sigma: Width of ``gaussian``.

    Raises:
        pydantic.ValidationError: If a field is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    unit: float | None = Field(default=None, gt=0)
    nms: Suppression = "normal"
    nms_threshold: float = Field(default=0.7, gt=0, le=1)
    nms_sigma: float = Field(default=0.5, gt=0)
