"""Ego4D-NLQ (Grauman et al., CVPR 2022): questions about eight minutes seen through the wearer's eyes."""

from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.moments import parse_moments

EGO4D_NLQ = Benchmark(
    name="ego4d-nlq",
    splits=(
        Split("train", "nlq_train.jsonl", ("nlq_train.jsonl",)),
        Split("val", "nlq_val.jsonl", ("nlq_val.jsonl",)),
    ),
    evaluation_split="val",
    main_metric="MR-full-R1@0.5",
    fps=0.5,
    hub_folder="ego4d",
    parse=parse_moments,
    min_duration=5,
)
"""Natural Language Queries; the test split's moments are withheld."""
