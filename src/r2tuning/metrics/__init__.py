"""The benchmarks' own metrics, in numpy: moment retrieval, highlight detection and summarization.

A definition here is the benchmark's, quirks included, so that numbers compare with published ones.
"""

from r2tuning.intervals import temporal_iou
from r2tuning.metrics.evaluate import BRIEF, evaluate_grounding, match_predictions
from r2tuning.metrics.highlight_detection import (
    interpolated_average_precision,
    trapezoid_average_precision,
    tvsum_top5_map,
    youtube_map,
)
from r2tuning.metrics.moment_retrieval import detection_average_precision
from r2tuning.metrics.records import GroundTruth, Prediction
from r2tuning.metrics.reliability import auroc, expected_calibration_error, find_reliability
from r2tuning.metrics.summarization import (
    SummaryCorrelation,
    correlate_summaries,
    kendall_tau,
    spearman_rho,
)

__all__ = [
    "BRIEF",
    "GroundTruth",
    "Prediction",
    "SummaryCorrelation",
    "auroc",
    "correlate_summaries",
    "detection_average_precision",
    "evaluate_grounding",
    "expected_calibration_error",
    "find_reliability",
    "interpolated_average_precision",
    "kendall_tau",
    "match_predictions",
    "spearman_rho",
    "temporal_iou",
    "trapezoid_average_precision",
    "tvsum_top5_map",
    "youtube_map",
]
