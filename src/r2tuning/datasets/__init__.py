"""Annotations of the benchmarks and of your own videos, read and checked.

Every benchmark has a file of its own that says only what is particular to it.
"""

from r2tuning.datasets.annotations import Annotation, fit_moments, to_ground_truth
from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.custom import CUSTOM, load_custom
from r2tuning.datasets.registry import BENCHMARKS, find_benchmark, load_annotations
from r2tuning.datasets.saliency import LabelRule, mark_moments

__all__ = [
    "BENCHMARKS",
    "CUSTOM",
    "Annotation",
    "Benchmark",
    "LabelRule",
    "Split",
    "find_benchmark",
    "fit_moments",
    "load_annotations",
    "load_custom",
    "mark_moments",
    "to_ground_truth",
]
