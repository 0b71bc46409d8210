"""What makes a generation: the model and how it encodes, told apart by fingerprints."""

from __future__ import annotations

import hashlib
from pathlib import Path

from r2tuning.errors import LibraryError
from r2tuning.grounder import Grounder
from r2tuning.library.records import GenerationFacts, Keep
from r2tuning.types import Sampling
from r2tuning.video.preprocess import PREPROCESS_VERSION


def name_model(model: str | Path) -> str:
    """The name of a model, or the absolute path of one in a folder."""
    return str(Path(model).absolute()) if Path(model).exists() else str(model)


def describe(grounder: Grounder, model: str, backbone: str | None, keep: Keep, sampling: Sampling) -> GenerationFacts:
    """What vectors and v̂ of a model are known by."""
    config, tower = grounder.config, grounder.backbone
    return GenerationFacts(
        model=model,
        backbone_at=backbone,
        head=fingerprint_head(grounder),
        backbone=tower.name,
        fingerprint=tower.fingerprint,
        preprocess_version=PREPROCESS_VERSION,
        fps=config.fps,
        window=max(1, round(config.window * config.fps)),
        sampling=sampling,
        engine=tower.engine,
        keep=keep,
    )


def fingerprint_head(grounder: Grounder) -> str:
    """Hash of the weights of the head, 16 hex digits."""
    digest = hashlib.sha256(grounder.config.model.model_dump_json().encode())
    for name, weight in sorted(grounder.model.state_dict().items()):
        digest.update(name.encode() + weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def other_model(name: str, old: GenerationFacts, new: GenerationFacts) -> LibraryError:
    """The error of asking a library with a model that did not make it."""
    ours, theirs = new.model_dump(), old.model_dump()
    differ = [key for key in ours if ours[key] != theirs[key] and key not in ("model", "backbone", "backbone_at")]
    reasons = ", ".join(f"{key} is {theirs[key]}, not {ours[key]}" for key in differ)
    return LibraryError(
        f"{name}: was made by {old.model} ({reasons}); use that, or encode all again with r2tuning library rescan"
    )
