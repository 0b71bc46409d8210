"""Charades-STA (Gao et al., ICCV 2017): one moment per sentence in half a minute of staged home life."""

from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.moments import parse_moments

CHARADES_STA = Benchmark(
    name="charades-sta",
    splits=(
        Split("train", "charades_train.jsonl", ("charades_train.jsonl",)),
        Split("test", "charades_test.jsonl", ("charades_test.jsonl",)),
    ),
    evaluation_split="test",
    main_metric="MR-full-R1@0.5",
    fps=1,
    hub_folder="charades",
    parse=parse_moments,
    min_duration=5,
)
"""There is no validation split: papers report the test split."""
