"""Find the moment: video temporal grounding with R²-Tuning (ECCV 2024)."""

from importlib.metadata import version

__version__ = version("r2tuning")
