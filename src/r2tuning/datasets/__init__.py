"""Annotations of the benchmarks and of custom data, read and checked.

One file per benchmark says what is special to it.
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
