"""Whether fast training learns as the plain one does: ``python benchmarks/bench_curve.py [SHAPES]``.

SHAPES is a folder that `r2tuning synthesize` and `r2tuning extract` filled (docs/moving-shapes.md); without one, videos
are made and encoded on the first run and kept. The recipe is trained for 200 steps with `training.fused` on and off,
from each of several seeds. Prints a Markdown table: how far the losses of two runs are apart, for runs that differ in
the way or in the seed, and the seconds of a step.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import combinations, pairwise
from pathlib import Path

from r2tuning.training.loop import train
from r2tuning.training.recipes import load_recipe

QUERIES = 24  # of a step
Curve = list[float]


def run(data: Path, features: Path, folder: Path, seed: int, fused: bool) -> tuple[Curve, float]:
    """Losses of every step, and the median seconds of a step."""
    settings = {
        "data.annotations": data,
        "data.features": features,
        "data.workers": 0,
        "training.batch_size": QUERIES,
        "training.epochs": 1,
        "training.seed": seed,
        "training.fused": str(fused).lower(),
        "training.log_every": 1,
        "training.ema": "null",
    }
    times: list[float] = []
    recipe = load_recipe("moving-shapes", [f"{key}={value}" for key, value in settings.items()])
    train(recipe, folder, report=lambda _: times.append(time.perf_counter()))
    with (folder / "log.csv").open(encoding="utf-8") as rows:
        losses = [float(row["total"]) for row in csv.DictReader(rows)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return losses, statistics.median(gaps)


def distance(one: Curve, other: Curve) -> float:
    """Mean distance of two curves, each smoothed over ten steps."""
    a, b = ([statistics.mean(curve[at : at + 10]) for at in range(0, len(curve) - 9, 10)] for curve in (one, other))
    return statistics.mean(abs(x - y) for x, y in zip(a, b, strict=True))


def make_shapes() -> Path:
    """A folder of enough videos for 200 steps, made where it is not there yet."""
    folder = Path(tempfile.gettempdir()) / "r2tuning-bench-curve"
    for split, videos in (("train", 240), ("val", 2)):
        making = ["synthesize", str(folder), "--split", split, "--videos", str(videos), "--jobs", "2"]
        extracting = [str(folder / f"{split}.jsonl"), str(folder / "videos"), str(folder / "features")]
        for command in (making, ["extract", *extracting, "-b", "moving-shapes", "--backbone", "demo", "--jobs", "2"]):
            subprocess.run([sys.executable, "-m", "r2tuning", *command], check=True, stdout=subprocess.DEVNULL)
    return folder


def main() -> None:
    """Trains, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", type=Path, nargs="?", help="folder of videos' features")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="20 steps")
    options = parser.parse_args()
    steps = 20 if options.quick else options.steps
    options.shapes = options.shapes or make_shapes()
    if not (options.shapes / "train.jsonl").is_file():
        sys.exit(f"{options.shapes}: has no train.jsonl; fill it as docs/moving-shapes.md says")
    curves: dict[tuple[int, bool], Curve] = {}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        lines = (options.shapes / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (data / "train.jsonl").write_text("".join(lines[: steps * QUERIES]), encoding="utf-8")
        # What is validated at the end does not matter here.
        val = (options.shapes / "val.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (data / "val.jsonl").write_text("".join(val[:10]), encoding="utf-8")
        for seed in range(options.seeds):
            for fused in (True, False):
                losses, taken = run(data, options.shapes / "features", Path(scratch) / f"{seed}-{fused}", seed, fused)
                curves[seed, fused] = losses[:steps]
                seconds[fused].append(taken)
                print(f"seed {seed}, fused {fused}: {len(losses)} steps", file=sys.stderr)
    ways = [distance(curves[seed, True], curves[seed, False]) for seed in range(options.seeds)]
    seeds = [
        distance(curves[one, fused], curves[other, fused])
        for fused in (True, False)
        for one, other in combinations(range(options.seeds), 2)
    ]
    last = [statistics.mean(curve[-20:]) for curve in curves.values()]
    print(f"{steps} steps of {QUERIES} queries; loss of the last 20 between {min(last):.3f} and {max(last):.3f}\n")
    print("| runs that differ in | mean distance of their losses |\n|---|---|")
    print(f"| fused or plain | {json.dumps([round(value, 5) for value in ways])} |")
    print(f"| the seed | {json.dumps([round(value, 5) for value in seeds])} |\n")
    fast, plain = (statistics.median(seconds[fused]) for fused in (True, False))
    print(f"A step takes {plain:.2f} s plain, {fast:.2f} s fused: {plain / fast:.1f} times as fast.")


if __name__ == "__main__":
    main()
