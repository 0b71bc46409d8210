"""How alike layers are (the paper's Fig. 9): ``python -m projects.moving_shapes.layers DIR CHECKPOINT=TITLE… -o FILE``.

Mean cosine of the video features of one layer and the query features of another, over pairs that belong together, as
the calibrating losses see them: projected [CLS] tokens, averaged over the frames of the moments, and pooled queries.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from projects.moving_shapes.shared import open_features, write_json
from r2tuning.checkpoints import read_checkpoint
from r2tuning.datasets import Annotation, Benchmark, find_benchmark, load_annotations
from r2tuning.errors import DataError
from r2tuning.features.store import FeatureStore
from r2tuning.model import R2Tuning
from r2tuning.output.charts import GREY, WIDTH, check_plot_target, save_picture
from r2tuning.training.losses import mean_positive, to_unit

Floats = NDArray[np.float64]


@torch.inference_mode()
def compare_layers(
    model: R2Tuning, annotations: Sequence[Annotation], benchmark: Benchmark, store: FeatureStore
) -> Floats:
    """Mean cosines ``[K, K]`` of every layer of queries (rows) and every layer of their videos, oldest first.

    Raises:
        DataError: If no annotation can be used.
    """
    total, count, layers = np.zeros((model.config.steps, model.config.steps)), 0, model.config.layers
    for annotation in annotations:
        video = store.video(benchmark.video_name(annotation))[:, -layers:].float().transpose(0, 1)[None]
        query = store.query(benchmark.query_name(annotation))[:, -layers:].float().transpose(0, 1)[None]
        frames, rate = video.shape[2], benchmark.frame_rate(annotation)
        target = benchmark.saliency_target(annotation, frames, rate)
        inside = torch.from_numpy(benchmark.positive_frames(annotation, target))[None]
        if inside.any():
            output = model(video, query)
            seen = to_unit(mean_positive(output.video_cls[:, :, : inside.shape[1]], inside))
            total += (to_unit(output.query_pooled) @ seen.transpose(-1, -2))[0].double().numpy()
            count += 1
    if not count:
        raise DataError("no moment holds a sampled frame; choose other annotations")
    return total / count


def draw_layers(found: Mapping[str, Floats]) -> Figure:
    """Heat maps side by side with the numbers in them, on one scale from -1 to 1."""
    columns = min(len(found), 2 if max(map(len, found.values())) > 4 else 4)
    rows = math.ceil(len(found) / columns)
    size = (WIDTH - 1) / max(columns, 2)
    figure = Figure(figsize=(WIDTH, 0.9 + rows * (size + 0.35)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    charts = figure.subplots(rows, columns, squeeze=False)
    for axes in charts.ravel()[len(found) :]:
        axes.axis("off")
    for axes, (title, matrix) in zip(charts.ravel(), found.items(), strict=False):
        image = axes.imshow(matrix, vmin=-1, vmax=1, cmap="PuOr_r")  # for every kind of color vision
        names = [f"{index - len(matrix)}" for index in range(len(matrix))]
        axes.set_xticks(range(len(matrix)), names)
        axes.set_yticks(range(len(matrix)), names)
        axes.set_title(title, fontsize=10, parse_math=False)
        axes.set_xlabel("layer of the video (-1: last)", fontsize=9)
        axes.set_ylabel("layer of the text", fontsize=9)
        axes.tick_params(labelsize=8, length=0)
        for row, column in np.ndindex(*matrix.shape):
            value = matrix[row, column]
            color = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    bar = figure.colorbar(image, ax=charts, shrink=0.8, pad=0.02)
    bar.set_label("mean cosine", fontsize=9, color=GREY)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle("Likeness of video and text features of paired moments and queries", fontsize=12)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Compares the layers of checkpoints on the features of a split."""
    parser = argparse.ArgumentParser(description="Cosines between layers of video and text features (Fig. 9).")
    parser.add_argument("folder", type=Path, help="of SPLIT.jsonl and features/")
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT=TITLE", help="folder, and what to call it")
    parser.add_argument("--split", default="val")
    parser.add_argument("--benchmark", default="moving-shapes")
    parser.add_argument("--queries", type=int, default=200, help="most pairs to look at")
    parser.add_argument("-o", "--output", type=Path, default=Path("layers.png"))
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)
    check_plot_target(options.output, force=True)
    benchmark = find_benchmark(options.benchmark)
    annotations = load_annotations(benchmark.find_file(options.folder, options.split), benchmark)[: options.queries]
    store = open_features(options.folder)
    found = {}
    for name in options.checkpoints:
        # Folders of an ablation have equals signs in their names; titles do not.
        place, equals, title = name.rpartition("=")
        place, title = (place, title) if equals and not Path(name).exists() else (name, Path(name).name)
        found[title] = compare_layers(read_checkpoint(place)[1].eval(), annotations, benchmark, store)
    save_picture(lambda: draw_layers(found), options.output, force=True)
    write_json(options.json, {title: np.round(matrix, 4).tolist() for title, matrix in found.items()})
    print(f"{len(annotations)} pairs: {options.output}")


if __name__ == "__main__":
    main()
