"""The published checkpoints: where each is, how to check it, what it was trained for, and what it scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from r2tuning.errors import CheckpointError
from r2tuning.files import cache_folder

if TYPE_CHECKING:
    from r2tuning.decoding.decode import Suppression
    from r2tuning.model.config import Family

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
"""A checkpoint folder has both. They are named here since `checkpoints.folder` imports PyTorch."""

REPOSITORY = "yeliudev/R2-Tuning"
"""The authors' model repository on the Hugging Face hub."""

BACKBONE = "openai/clip-vit-base-patch32"
"""The frozen CLIP whose features every published checkpoint reads."""


@dataclass(frozen=True)
class PublishedCheckpoint:
    """One of the authors' files.

    Attributes:
        name: As in ``--model``, such as ``qvhighlights`` or ``tvsum/BK``.
        family: ``grounding`` (moments and saliency) or ``saliency``.
        file: Path in the repository.
        sha256_prefix: First 8 hex digits of the file's SHA-256.
        fps: Frames per second of training. YouTube Highlights was trained at the clips per second of each video; 0.59
            is their median over the public annotations.
        window: Seconds, about the length of the longest training videos.
        unit: Starts and ends are rounded to multiples of this many seconds; None keeps them as they are.
        nms: Suppression of overlapping moments (``normal`` at IoU 0.7).
        dropout: Of the two feature maps in training.
        scores: Validation scores the authors report, in percent.
    """

    name: str
    family: Family
    file: str
    sha256_prefix: str
    fps: float
    window: float
    unit: float | None
    nms: Suppression
    dropout: float
    scores: Mapping[str, float] = field(hash=False)

    @property
    def url(self) -> str:
        """Where a browser finds the file."""
        return f"https://huggingface.co/{REPOSITORY}/resolve/main/{self.file}"

    @property
    def approximate_size(self) -> int:
        """Bytes to download, to within a few percent: four for each parameter."""
        return 4 * {"grounding": 2_836_242, "saliency": 1_846_281}[self.family]

    @property
    def cached_folder(self) -> Path:
        """Its checkpoint folder in the cache, whether or not it exists yet.

        The hash is part of the name, so a file that is published again is fetched again.
        """
        return cache_folder() / "checkpoints" / f"{self.name}-{self.sha256_prefix}"

    @property
    def is_cached(self) -> bool:
        """Whether it can be used without a network."""
        return all((self.cached_folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))


def _publish(
    name: str,
    file: str,
    scores: Mapping[str, float],
    *,
    family: Family = "grounding",
    fps: float = 0.5,
    window: float,
    unit: float | None = None,
    nms: Suppression = "linear",
    dropout: float = 0.5,
) -> PublishedCheckpoint:
    path = f"checkpoints/r2_tuning_{file}.pth"
    scores = MappingProxyType(dict(scores))
    return PublishedCheckpoint(name, family, path, file[-8:], fps, window, unit, nms, dropout, scores)


def _recall(*percent: float) -> dict[str, float]:
    return dict(zip(("MR-full-R1@0.3", "MR-full-R1@0.5", "MR-full-R1@0.7"), percent, strict=True))


_YOUTUBE = {
    "dog": ("dog-702bd293", 74.26),
    "gymnastics": ("gym-ff68b1b3", 72.07),
    "parkour": ("par-27442af0", 81.02),
    "skating": ("ska-dad28398", 76.26),
    "skiing": ("ski-df2edc4c", 74.36),
    "surfing": ("sur-d384d8b2", 82.76),
}
_TVSUM = {
    "BK": ("bk-45b59440", 91.23),
    "BT": ("bt-13683fdf", 92.35),
    "DS": ("ds-d11b33d3", 80.88),
    "FM": ("fm-2c8c119d", 75.61),
    "GA": ("ga-58e79858", 89.51),
    "MS": ("ms-d9b4f8fa", 85.01),
    "PK": ("pk-1830ce03", 82.82),
    "PR": ("pr-51d78fc9", 90.39),
    "VT": ("vt-0069d8d3", 89.81),
    "VU": ("vu-6f8ebb4b", 85.90),
}

PUBLISHED: tuple[PublishedCheckpoint, ...] = (
    _publish(
        "qvhighlights",
        "qvhighlights-ed516355",
        _recall(78.71, 67.74, 51.87) | {"MR-full-mAP": 47.86, "HL-min-VeryGood-mAP": 39.45},
        window=150,
        unit=2,
        nms="normal",
    ),
    _publish("ego4d-nlq", "ego4d-6a6f5754", _recall(7.18, 4.54, 2.25), window=480, dropout=0.3),
    _publish(
        "charades-sta", "charades-1de02112", _recall(70.91, 60.48, 38.66), fps=1, window=195, unit=0.1, dropout=0.35
    ),
    _publish("tacos", "tacos-81759b55", _recall(50.96, 40.69, 25.69), window=780),
    *(
        _publish(
            f"{name}/{domain}", f"{stem}_{file}", {"mAP": score}, family="saliency", fps=fps, window=window, nms="none"
        )
        for name, stem, fps, window, domains in (
            ("youtube-highlights", "youtube", 0.59, 600, _YOUTUBE),
            ("tvsum", "tvsum", 0.5, 650, _TVSUM),
        )
        for domain, (file, score) in domains.items()
    ),
)
"""All 20, in the order of the paper's tables."""

_BY_NAME = {entry.name.lower(): entry for entry in PUBLISHED}


def is_published(name: str) -> bool:
    """Whether ``name`` is a published checkpoint's, in upper or lower case."""
    return name.lower() in _BY_NAME


def find_published(name: str) -> PublishedCheckpoint:
    """The published checkpoint called ``name``, in upper or lower case.

    Example:
        >>> find_published("charades")
        Traceback (most recent call last):
        r2tuning.errors.CheckpointError: no published model 'charades'; did you mean charades-sta?
    """
    if not is_published(name):
        raise CheckpointError(f"no published model {name!r}; {suggest_published(name)}")
    return _BY_NAME[name.lower()]


def suggest_published(name: str, *others: str) -> str:
    """A hint for an unknown ``name``: the nearest published or other (lower-case) names, or how to list them.

    Example:
        >>> suggest_published("demos", "demo"), suggest_published("dog"), suggest_published("yolo")
        ('did you mean demo?', 'there is youtube-highlights/dog', '`r2tuning models` lists them')
    """
    # A benchmark stands for its parts, and a part for those of its name.
    parts = [entry.name for entry in PUBLISHED if name.lower() in entry.name.lower().split("/")]
    if parts:
        return f"there {'are' if len(parts) > 1 else 'is'} {', '.join(parts)}"
    near = get_close_matches(name.lower(), [*_BY_NAME, *others], n=2, cutoff=0.6)
    if not near:
        return "`r2tuning models` lists them"
    return f"did you mean {' or '.join(_BY_NAME[key].name if key in _BY_NAME else key for key in near)}?"


def match_published(file_name: str) -> PublishedCheckpoint | None:
    """The published checkpoint whose file is called ``file_name``, by the name's end ``-<8 hex digits>.pth``.

    Example:
        >>> match_published("r2_tuning_tvsum_bk-45b59440.pth").name
        'tvsum/BK'
    """
    return next((entry for entry in PUBLISHED if file_name.endswith(f"-{entry.sha256_prefix}.pth")), None)


DEMO = "demo"
"""The name of the embedded model; a folder of that name is ``./demo``."""

DEMO_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "demo" / "head"
"""Its checkpoint folder; its CLIP, ``r2tuning/demo``, is beside it."""

DEMO_WORLD = "videos of moving colored shapes, such as `r2tuning synthesize` makes"
"""All that it was trained on."""

DEMO_FPS = 0.5


def demo_size() -> int:
    """Bytes of the demo's files, CLIP included."""
    return sum(file.stat().st_size for file in DEMO_FOLDER.parent.rglob("*") if file.is_file())
