"""Grounds three queries in a video and compares the answers with the truth, offline.

The embedded model knows only Moving Shapes, synthetic videos whose moments are known exactly. The video is from the
test split, which training has not seen.

Usage: python examples/demo.py [PLOT]
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from r2tuning import Grounder, Grounding
from r2tuning.intervals import temporal_iou
from r2tuning.output.text import format_clock
from r2tuning.output.text.terminal import print_grounding

FOLDER = Path(__file__).resolve().parent
PLOT = FOLDER.parent / "build" / "demo.png"
GOOD = 0.7
"""IoU from which an answer is right, as in R1@0.7."""


def main(plot: Path) -> int:
    """Returns the exit code: 1 if an answer is wrong."""
    console = Console()
    video = os.path.relpath(FOLDER / "sample.mp4")
    entries = [json.loads(line) for line in (FOLDER / "sample.jsonl").read_text(encoding="utf-8").splitlines()]

    grounder = Grounder.from_pretrained("demo")
    encoded = grounder.encode(video)  # once, for all queries
    results = grounder.ground(encoded, [entry["query"] for entry in entries], top_k=3)

    wrong = 0
    for result, entry in zip(results, entries, strict=True):
        print_grounding(result, console)
        iou = compare(result, entry["relevant_windows"])
        wrong += iou < GOOD
        truth = " and ".join(
            f"{format_clock(start)} to {format_clock(end)}" for start, end in entry["relevant_windows"]
        )
        console.print(f"truth {truth}, best answer IoU {iou:.2f}\n", style="bold red" if iou < GOOD else "bold green")

    plot.parent.mkdir(exist_ok=True)
    results[1].save(plot, force=True)
    console.print(f"Plot of the second answer: {os.path.relpath(plot)}")
    if wrong:
        console.print(f"{wrong} of {len(results)} best answers have an IoU below {GOOD}")
    return int(wrong > 0)


def compare(result: Grounding, truth: list[tuple[float, float]]) -> float:
    """Highest IoU of the best answer with a true moment; 0 without an answer."""
    best = np.array([[moment.start, moment.end] for moment in result.moments[:1]]).reshape(-1, 2)
    return float(temporal_iou(best, np.array(truth, dtype=float)).max(initial=0))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PLOT))
