"""Shape and options of an R²-Tuning model: everything needed to build it, nothing about data or decoding."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from r2tuning.types import Form

Family = Literal["grounding", "saliency"]
Refinement = Literal["reversed", "forward", "mean", "single"]
Init = Literal["released", "default"]


class R2Config(BaseModel):
    """Configuration of `R2Tuning`; the defaults are the published QVHighlights model on CLIP ViT-B/32.

    Attributes:
        family: ``grounding`` answers with moments and saliency, ``saliency`` with saliency alone.
        form: ``released`` is the model of the released checkpoints. ``paper`` follows Eq. 1 to 8 and 14 as written: the
            softmax of Eq. 4 is over the patches without [CLS] and w_q, w_v have no bias, the first step fuses h⁰ = 0
            (Eq. 7), no ReLU follows the last step, and saliency is the cosine of Eq. 14 alone.
        init: How random weights start. ``released`` is the released recipe: projections of both attentions Xavier
            uniform, the feed-forward network Kaiming normal (fan out), biases of both zero. ``default`` leaves these,
            like all others, to PyTorch. Without effect once weights are loaded.
        video_width: Dv, width of the image tower's tokens.
        query_width: Dq, width of the text tower's tokens.
        layers: K, number of last CLIP layers the R² Block walks through.
        refinement: How the layers are used (Fig. 7): ``reversed`` walks from deep to shallow, ``forward`` the other
            way, ``mean`` looks once at their average, ``single`` once at the K-th last layer alone.
        hidden: C, width inside the model.
        heads: Attention heads of the temporal layer.
        strides: Strides of the pyramid levels; powers of two, ascending, starting at 1.
        dropout: Dropout before each linear layer of the two feature maps.
        drop_path: Chance that a sample skips a sub-layer of the temporal layer during training.
        presence: Whether a head tells if the video shows the query at all, which no released model has.

    Raises:
        pydantic.ValidationError: If a field is unknown or out of range.

    Example:
        >>> R2Config(family="saliency").strides
        (1,)
        >>> R2Config().strides
        (1, 2, 4, 8)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: Family = "grounding"
    form: Form = "released"
    init: Init = "released"
    video_width: int = Field(default=768, ge=1, le=65536)
    query_width: int = Field(default=512, ge=1, le=65536)
    layers: int = Field(default=4, ge=1, le=256)
    refinement: Refinement = "reversed"
    hidden: int = Field(default=256, ge=1, le=16384)
    heads: int = Field(default=8, ge=1, le=1024)
    strides: tuple[int, ...] = Field(default=(1, 2, 4, 8), max_length=16)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    presence: bool = False

    @model_validator(mode="before")
    @classmethod
    def _one_level_for_saliency(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("family") == "saliency":
            return {"strides": (1,), **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> "R2Config":
        if self.hidden % self.heads or self.hidden % 2:
            raise ValueError(f"hidden ({self.hidden}) must be even and a multiple of heads ({self.heads})")
        if not self.strides or self.strides != tuple(2**level for level in range(len(self.strides))):
            raise ValueError(f"strides must be 1, 2, 4, … in order, not {self.strides}")
        if self.family == "saliency" and self.strides != (1,):
            raise ValueError(f"the saliency family has the one stride 1, not {self.strides}")
        return self

    @property
    def video_input_width(self) -> int:
        """Width of what `video_map` reads: grounding models see two temporal endpoints beside each token."""
        return self.video_width + 2 if self.family == "grounding" else self.video_width

    @property
    def first_pooled(self) -> int:
        """The first token of a frame that queries attend to (Eq. 4): 0 is [CLS], which the paper's form leaves out."""
        return 1 if self.form == "paper" else 0

    @property
    def steps(self) -> int:
        """Steps of the R² Block: one for each layer it looks at."""
        return self.layers if self.refinement in ("reversed", "forward") else 1
