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
"""A checkpoint folder has both. They are named here since listing the checkpoints must not import PyTorch."""

REPOSITORY = "yeliudev/R2-Tuning"
"""The authors' model repository on the Hugging Face hub."""

BACKBONE = "openai/clip-vit-base-patch32"
"""The frozen CLIP whose features every published checkpoint reads."""

_PARAMETERS = {"grounding": 2_836_242, "saliency": 1_846_281}


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
        dropout: Of the two feature maps in training, in [0, 1).
        scores: Validation scores the authors report, in percent, under the benchmark's metric names.
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
    def parameters(self) -> int:
        """Number of learnable parameters."""
        return _PARAMETERS[self.family]

    @property
    def approximate_size(self) -> int:
        """Bytes to download, to within a few percent: four for each parameter."""
        return 4 * self.parameters

    @property
    def cached_folder(self) -> Path:
        """Its checkpoint folder in the cache, whether or not it exists yet.

        The hash is part of the name, so a file that is published again is fetched again.

        Example:
            >>> find_published("tvsum/BK").cached_folder.relative_to(cache_folder()).as_posix()
            'checkpoints/tvsum/BK-45b59440'
        """
        return cache_folder() / "checkpoints" / f"{self.name}-{self.sha256_prefix}"

    @property
    def is_cached(self) -> bool:
        """Whether it can be used without a network."""
        return all((self.cached_folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))


def _grounding(
    name: str,
    file: str,
    *,
    fps: float = 0.5,
    window: float,
    unit: float | None = None,
    nms: Suppression = "linear",
    dropout: float = 0.5,
    recall: tuple[float, float, float],
    more_scores: Mapping[str, float] = MappingProxyType({}),
) -> PublishedCheckpoint:
    thresholds = ("0.3", "0.5", "0.7")
    scores = {f"MR-full-R1@{t}": score for t, score in zip(thresholds, recall, strict=True)} | dict(more_scores)
    return PublishedCheckpoint(
        name=name,
        family="grounding",
        file=f"checkpoints/r2_tuning_{file}.pth",
        sha256_prefix=file[-8:],
        fps=fps,
        window=window,
        unit=unit,
        nms=nms,
        dropout=dropout,
        scores=MappingProxyType(scores),
    )


def _saliency(name: str, file: str, *, fps: float, window: float, mean_ap: float) -> PublishedCheckpoint:
    return PublishedCheckpoint(
        name=name,
        family="saliency",
        file=f"checkpoints/r2_tuning_{file}.pth",
        sha256_prefix=file[-8:],
        fps=fps,
        window=window,
        unit=None,
        nms="none",
        dropout=0.5,
        scores=MappingProxyType({"mAP": mean_ap}),
    )


def _youtube(domain: str, file: str, mean_ap: float) -> PublishedCheckpoint:
    name = f"youtube-highlights/{domain}"
    return _saliency(name, f"youtube_{file}", fps=0.59, window=600, mean_ap=mean_ap)


def _tvsum(domain: str, sha256_prefix: str, mean_ap: float) -> PublishedCheckpoint:
    file = f"tvsum_{domain.lower()}-{sha256_prefix}"
    return _saliency(f"tvsum/{domain}", file, fps=0.5, window=650, mean_ap=mean_ap)


PUBLISHED: tuple[PublishedCheckpoint, ...] = (
    _grounding(
        "qvhighlights",
        "qvhighlights-ed516355",
        window=150,
        unit=2,
        nms="normal",
        recall=(78.71, 67.74, 51.87),
        more_scores={"MR-full-mAP": 47.86, "HL-min-VeryGood-mAP": 39.45},
    ),
    _grounding("ego4d-nlq", "ego4d-6a6f5754", window=480, dropout=0.3, recall=(7.18, 4.54, 2.25)),
    _grounding(
        "charades-sta",
        "charades-1de02112",
        fps=1,
        window=195,
        unit=0.1,
        dropout=0.35,
        recall=(70.91, 60.48, 38.66),
    ),
    _grounding("tacos", "tacos-81759b55", window=780, recall=(50.96, 40.69, 25.69)),
    _youtube("dog", "dog-702bd293", 74.26),
    _youtube("gymnastics", "gym-ff68b1b3", 72.07),
    _youtube("parkour", "par-27442af0", 81.02),
    _youtube("skating", "ska-dad28398", 76.26),
    _youtube("skiing", "ski-df2edc4c", 74.36),
    _youtube("surfing", "sur-d384d8b2", 82.76),
    _tvsum("BK", "45b59440", 91.23),
    _tvsum("BT", "13683fdf", 92.35),
    _tvsum("DS", "d11b33d3", 80.88),
    _tvsum("FM", "2c8c119d", 75.61),
    _tvsum("GA", "58e79858", 89.51),
    _tvsum("MS", "d9b4f8fa", 85.01),
    _tvsum("PK", "1830ce03", 82.82),
    _tvsum("PR", "51d78fc9", 90.39),
    _tvsum("VT", "0069d8d3", 89.81),
    _tvsum("VU", "6f8ebb4b", 85.90),
)
"""All 20, in the order of the paper's tables."""

_BY_NAME = {entry.name.lower(): entry for entry in PUBLISHED}


def is_published(name: str) -> bool:
    """Whether ``name`` is a published checkpoint's, in upper or lower case.

    Example:
        >>> is_published("TVSum/bk"), is_published("bk.pth")
        (True, False)
    """
    return name.lower() in _BY_NAME


def find_published(name: str) -> PublishedCheckpoint:
    """The published checkpoint called ``name``, in upper or lower case.

    Raises:
        CheckpointError: If there is none; the message has the nearest names.

    Example:
        >>> find_published("QVHighlights").unit
        2
        >>> find_published("charades")
        Traceback (most recent call last):
        r2tuning.errors.CheckpointError: no published model 'charades'; did you mean charades-sta?
    """
    if not is_published(name):
        raise CheckpointError(f"no published model {name!r}; {suggest_published(name)}")
    return _BY_NAME[name.lower()]


def suggest_published(name: str, *others: str) -> str:
    """A hint for an unknown ``name``: the nearest names, or how to list them.

    Args:
        name: What the user gave.
        others: More names to choose from, in lower case.

    Example:
        >>> suggest_published("charade")
        'did you mean charades-sta?'
        >>> suggest_published("yolo")
        '`r2tuning models` lists them'
        >>> suggest_published("demos", "demo")
        'did you mean demo?'
    """
    near = get_close_matches(name.lower(), [*_BY_NAME, *others], n=2, cutoff=0.6)
    if not near:
        return "`r2tuning models` lists them"
    return f"did you mean {' or '.join(_BY_NAME[key].name if key in _BY_NAME else key for key in near)}?"


def match_published(file_name: str) -> PublishedCheckpoint | None:
    """The published checkpoint whose file is called ``file_name``, or None.

    The end of the name, ``-<8 hex digits>.pth``, decides, so a file may have been renamed before it.

    Example:
        >>> match_published("r2_tuning_tvsum_bk-45b59440.pth").name
        'tvsum/BK'
        >>> match_published("best.pth") is None
        True
    """
    for entry in PUBLISHED:
        if file_name.endswith(f"-{entry.sha256_prefix}.pth"):
            return entry
    return None


DEMO = "demo"
"""The name of the embedded model; a folder of that name is ``./demo``."""

DEMO_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "demo" / "head"
"""Its checkpoint folder; its CLIP, ``r2tuning/demo``, is beside it."""

DEMO_WORLD = "videos of moving coloured shapes, such as `r2tuning synthesize` makes"
"""What it was trained on, and all it knows."""

DEMO_FPS = 0.5


def demo_size() -> int:
    """Bytes of the demo's files, CLIP included."""
    return sum(file.stat().st_size for file in DEMO_FOLDER.parent.rglob("*") if file.is_file())
