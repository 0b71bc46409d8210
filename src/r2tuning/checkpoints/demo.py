"""The demo checkpoint, which comes with the package. Facts only: no PyTorch."""

from __future__ import annotations

from pathlib import Path

DEMO = "demo"
"""What to ask for; a folder of that name is ``./demo``."""

DEMO_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "demo" / "head"
"""Its checkpoint folder; its CLIP, ``r2tuning/demo``, lies beside it."""

DEMO_WORLD = "videos of moving coloured shapes, such as `r2tuning synthesize` makes"
"""All that it knows."""

DEMO_FPS = 0.5


def demo_size() -> int:
    """Bytes of all that the demo needs, CLIP included."""
    return sum(file.stat().st_size for file in DEMO_FOLDER.parent.rglob("*") if file.is_file())
