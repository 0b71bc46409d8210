"""Seconds to score predictions for 1,550 queries, the size of QVHighlights' validation split.

Without files, random predictions and labels of that size are drawn: 10 moments, saliency of 75 clips, and 2 labeled
moments. Prints two Markdown tables of seconds (median, lowest to highest): fresh processes, and the metrics alone
beside the reference of the tests, which loops over queries.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from r2tuning.datasets import find_benchmark, load_annotations, to_ground_truth
from r2tuning.evaluation.score import read_predictions
from r2tuning.metrics import evaluate_grounding

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from support.reference_metrics import highlight_metrics, moment_metrics  # noqa: E402

QUERIES, CLIPS, CLIP = 1550, 75, 2

READ = "import json, sys; [[json.loads(line) for line in open(name)] for name in sys.argv[1:]]"


def draw(folder: Path) -> tuple[Path, Path]:
    """Writes answers and labels in the form of QVHighlights."""
    random = np.random.default_rng(0)
    answers, labels = folder / "answers.jsonl", folder / "labels.jsonl"
    with answers.open("w", encoding="utf-8") as predicted, labels.open("w", encoding="utf-8") as truth:
        for qid in range(QUERIES):
            begins = np.sort(random.choice(CLIPS // 3, size=2, replace=False)) * 3
            windows = [[int(begin) * CLIP, int(begin + random.integers(1, 4)) * CLIP] for begin in begins]
            clips = [clip for begin, end in windows for clip in range(begin // CLIP, end // CLIP)]
            ratings = random.integers(0, 5, (len(clips), 3)).tolist()
            spans = np.sort(random.integers(0, CLIPS + 1, (10, 2)), axis=1) * CLIP
            scores = np.sort(random.random(10))[::-1].round(4)
            moments = [[*span, score] for span, score in zip(spans.tolist(), scores.tolist(), strict=True)]
            query = {"qid": qid, "query": "a dog catches a frisbee", "vid": f"v{qid}"}
            labelled = {"relevant_windows": windows, "relevant_clip_ids": clips, "saliency_scores": ratings}
            answered = {"pred_relevant_windows": moments, "pred_saliency_scores": random.normal(size=CLIPS).tolist()}
            truth.write(json.dumps(query | {"duration": CLIPS * CLIP} | labelled) + "\n")
            predicted.write(json.dumps(query | answered) + "\n")
    return answers, labels


def run(*command: str) -> None:
    # Python may keep what it compiles, as it does for users.
    kept = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=kept)


def print_table(title: str, ways: Mapping[str, Callable[[], object]], rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:  # the first round only warms caches
                seconds[name].append(time.perf_counter() - began)
    print(f"| {title} | seconds |\n|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f}) |")


def main() -> None:
    """Draws what is not given, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=Path, help="of queries of QVHighlights; drawn if not given")
    parser.add_argument("--labels", type=Path, help="of these queries")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if (options.answers is None) != (options.labels is None):
        parser.error("give both --answers and --labels, or neither")
    with tempfile.TemporaryDirectory() as folder:
        answers, labels = (options.answers, options.labels) if options.answers else draw(Path(folder))
        fresh = {
            "reading both files as JSON": lambda: run("-c", READ, str(answers), str(labels)),
            "`r2tuning score`": lambda: run("-m", "r2tuning", "score", str(answers), str(labels)),
        }
        print_table("fresh process", fresh, options.rounds)
        benchmark = find_benchmark("qvhighlights")
        annotations = load_annotations(labels, benchmark)
        predictions = read_predictions(answers, annotations, moments=True)
    truths = [to_ground_truth(annotation) for annotation in annotations]
    alone = {
        "query by query": lambda: (moment_metrics(predictions, truths), highlight_metrics(predictions, truths)),
        "all together": lambda: evaluate_grounding(predictions, truths),
    }
    print()
    print_table("metrics alone", alone, options.rounds)


if __name__ == "__main__":
    main()
