"""Find the moment: video temporal grounding with R²-Tuning (ECCV 2024)."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2tuning.checkpoints import load_checkpoint
    from r2tuning.decoding import decode
    from r2tuning.errors import R2TuningError
    from r2tuning.features import EncodedVideo
    from r2tuning.grounder import Grounder, outline_video
    from r2tuning.library.library import Library
    from r2tuning.model import R2Config, R2Tuning
    from r2tuning.results import Grounding, Summary, summarize
    from r2tuning.types import ModelOutput, Moment, Saliency, VideoInfo
    from r2tuning.video import probe

__version__: str

__all__ = [
    "EncodedVideo",
    "Grounder",
    "Grounding",
    "Library",
    "ModelOutput",
    "Moment",
    "R2Config",
    "R2Tuning",
    "R2TuningError",
    "Saliency",
    "Summary",
    "VideoInfo",
    "decode",
    "load_checkpoint",
    "outline_video",
    "probe",
    "summarize",
]

# Names are imported when they are first used, so that `import r2tuning` does not wait for PyTorch.
_HOME = {
    "EncodedVideo": "r2tuning.features",
    "Grounder": "r2tuning.grounder",
    "Grounding": "r2tuning.results",
    "Library": "r2tuning.library.library",
    "ModelOutput": "r2tuning.types",
    "Moment": "r2tuning.types",
    "R2Config": "r2tuning.model",
    "R2Tuning": "r2tuning.model",
    "R2TuningError": "r2tuning.errors",
    "Saliency": "r2tuning.types",
    "Summary": "r2tuning.results",
    "VideoInfo": "r2tuning.types",
    "decode": "r2tuning.decoding",
    "load_checkpoint": "r2tuning.checkpoints",
    "outline_video": "r2tuning.grounder",
    "probe": "r2tuning.video",
    "summarize": "r2tuning.results",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("r2tuning")
    if name not in _HOME:
        raise AttributeError(f"module 'r2tuning' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
