"""Draws what ``bench_model.py --json`` measured: ``python benchmarks/draw.py model.json docs/images/benchmarks.png``.

Left, what a question costs by the length of the video; right, by the number of questions asked at once.
"""

import argparse
import json
import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw_curve(axes: Axes, times: dict[str, list[float]], factor: dict[str, float], label: str) -> None:
    """Medians over sizes, with bars from the least to the largest."""
    sizes = [int(size) for size in times]
    columns = [[1e3 * value * factor[size] for value in values] for size, values in times.items()]
    middle = [statistics.median(column) for column in columns]
    below = [median - min(column) for median, column in zip(middle, columns, strict=True)]
    above = [max(column) - median for median, column in zip(middle, columns, strict=True)]
    axes.errorbar(sizes, middle, yerr=[below, above], marker="o", capsize=3, label=label)


def main() -> None:
    """Reads, draws, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path, help="of bench_model.py --json")
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    figures = json.loads(options.figures.read_text())
    by_frames, by_queries = figures["one query by frames"], figures["one window by queries"]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_curve(left, by_frames, dict.fromkeys(by_frames, 1.0), "one question, in windows of 75 frames")
    (first, *_), (least, *_) = by_frames, by_frames.values()
    frames = [int(size) for size in by_frames]
    start = 1e3 * statistics.median(least)
    left.plot(frames, [start * size / int(first) for size in frames], "--", color="gray", label="in proportion")
    left.set(xscale="log", yscale="log", xlabel="frames of the video", ylabel="milliseconds")
    left.set_title("A question about longer videos")
    draw_curve(right, by_queries, {size: 1 / int(size) for size in by_queries}, "asked at once about 75 frames")
    right.set(xscale="log", xlabel="questions", ylabel="milliseconds for each", ylim=(0, None))
    right.set_title("Several questions")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(options.picture, dpi=120)


if __name__ == "__main__":
    main()
