"""Whether model, backbone, features, video and query fit: errors where they cannot, warnings where they may not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import torch

from r2tuning.backbones import Backbone
from r2tuning.checkpoints import CheckpointConfig, Domain
from r2tuning.errors import BackboneError, FeatureError
from r2tuning.features import EncodedVideo
from r2tuning.types import QueryFeatures

FRAMES_COMPARED = 64
"""Frames, evenly spaced, that are compared with the training data."""

_LITTLE_WORDS = {
    "German": "der das dem ein eine einen einem einer und ist sich auf mit im zu von nicht wird",
    "French": "le la les un une du dans et est sur avec qui au aux pas sa",
    "Spanish": "el la las un una unos de del en y con por que su está",
    "Italian": "il lo la gli un una di del della nel nella con che sul sulla",
    "Portuguese": "os um uma de da na em com que seu sua",
    "Dutch": "het een zijn niet naar wordt aan uit een",
}
"""Frequent words of each language that are rare in English sentences."""

_ENGLISH = {"an", "the", "is", "are", "and", "with", "of", "to", "his", "her", "their", "from", "at", "this", "that"}
"""A sentence with one of these is English."""


def check_backbone(config: CheckpointConfig, backbone: Backbone) -> None:
    """Checks that a backbone is one that the model can read.

    Raises:
        BackboneError: If it is not.
    """
    model = config.model
    for tower, has, wants in (
        ("image", backbone.video_width, model.video_width),
        ("text", backbone.query_width, model.query_width),
    ):
        if has != wants:
            raise BackboneError(
                f"{backbone.name}: its {tower} tower is {has} wide, but the model was trained on one of {wants}; "
                f"give the backbone it was trained on"
            )
    if backbone.layers != model.layers:
        raise BackboneError(f"{backbone.name}: reads {backbone.layers} layers, the model takes {model.layers}")
    if backbone.summary != config.summary or config.fingerprint not in ("", backbone.fingerprint):
        raise BackboneError(
            f"{backbone.name}: {config.name} was trained on features of another backbone; give {config.backbone}"
        )


def check_features(
    config: CheckpointConfig, backbone: Backbone | None, encoded: EncodedVideo, queries: Sequence[QueryFeatures]
) -> None:
    """Checks that features were made for a model, and by its backbone or the one given in its place.

    Raises:
        FeatureError: If they were not.
    """
    model, facts = config.model, encoded.facts
    if (encoded.layers, encoded.width) != (model.layers, model.video_width):
        raise FeatureError(
            f"{facts.video}: features have {encoded.layers} layers of width {encoded.width}, the model "
            f"{config.name} takes {model.layers} of {model.video_width}; encode the video again"
        )
    for query in queries:
        if query.values.shape[::2] != (model.layers, model.query_width):
            layers, _, width = query.values.shape
            raise FeatureError(
                f"query {query.text[:60]!r}: features have {layers} layers of width {width}, the model "
                f"{config.name} takes {model.layers} of {model.query_width}; encode the query again"
            )
    fingerprint = (backbone or config).fingerprint
    # Features without a fingerprint are the authors'; nothing tells which weights made them.
    known = "" not in (facts.fingerprint, fingerprint)
    if facts.summary != config.summary or (known and facts.fingerprint != fingerprint):
        made, wanted = facts.backbone, config.backbone
        if facts.summary != config.summary:
            made, wanted = f"{made} with token 0 {facts.summary}", f"{wanted} with {config.summary}"
        raise FeatureError(
            f"{facts.video}: features were made with another backbone ({made}, not {wanted}); encode the video again"
        )


def compare_domain(domain: Domain | None, model: str, video: EncodedVideo) -> str:
    """Describes how a video differs from a model's training data; empty if it does not, or if that is unknown."""
    if domain is None:
        return ""
    picked = np.linspace(0, video.frames - 1, min(video.frames, FRAMES_COMPARED)).round().astype(int).tolist()
    if not domain.is_outside(torch.stack([video.read(i, i + 1)[-1, 0, 0] for i in picked])):
        return ""
    return f"it looks unlike all that {model} was trained on, which is {domain.world}; do not rely on this answer"


def check_language(query: str, backbone: Backbone) -> str:
    """Says that a query is not English where the backbone knows only English; empty otherwise."""
    if backbone.multilingual or not is_foreign(query):
        return ""
    return f"does not look like English, the only language of {backbone.name}; ask in English"


def is_foreign(text: str) -> bool:
    """Whether a sentence is in another language than English, as far as script and little words tell.

    A sentence is foreign if most of its letters are not Latin, if it has two little words of one other language, or one
    and an accent. A name with an accent alone is not.

    Example:
        >>> is_foreign("ein Hund läuft"), is_foreign("собака бежит"), is_foreign("a dog at the café")
        (True, True, False)
    """
    latin = [unicodedata.name(c, "").startswith("LATIN") for c in text if c.isalpha()]
    if latin and sum(latin) < len(latin) / 2:
        return True
    words = set(re.findall(r"\w+", text.lower()))
    found = max(len(words & set(little.split())) for little in _LITTLE_WORDS.values())
    accent = any(c.isalpha() and not c.isascii() for c in text)
    return not words & _ENGLISH and found > 0 and found + accent >= 2
