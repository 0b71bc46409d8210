"""Annotations of the benchmarks and of custom data, read and checked.

One file per benchmark says what is special to it.
"""

from r2tuning.datasets.annotations import Annotation, LabelRule, fit_moments, mark_moments, to_ground_truth
from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.custom import CUSTOM, load_custom
from r2tuning.datasets.registry import BENCHMARKS, find_benchmark, load_annotations

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
