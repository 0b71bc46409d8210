"""The benchmarks' metrics, in numpy: moments of one video or of many, presence, highlights and summaries.

Each follows its benchmark's definition, quirks included, so that numbers compare with published ones.
"""

from r2tuning.metrics.corpus import evaluate_corpus
from r2tuning.metrics.evaluate import BRIEF, evaluate_grounding, match_predictions
from r2tuning.metrics.highlight_detection import tvsum_top5_map, youtube_map
from r2tuning.metrics.records import CorpusPrediction, CorpusTruth, GroundTruth, Prediction
from r2tuning.metrics.reliability import (
    auroc,
    average_precision,
    expected_calibration_error,
    find_reliability,
    kendall_tau,
    spearman_rho,
)

__all__ = [
    "BRIEF",
    "CorpusPrediction",
    "CorpusTruth",
    "GroundTruth",
    "Prediction",
    "auroc",
    "average_precision",
    "evaluate_corpus",
    "evaluate_grounding",
    "expected_calibration_error",
    "find_reliability",
    "kendall_tau",
    "match_predictions",
    "spearman_rho",
    "tvsum_top5_map",
    "youtube_map",
]
