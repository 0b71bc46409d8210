"""Which start of random weights learns better, ``model.init=released`` or ``default``: a table for each data set.

Planted features (`tests/support/planted.py`), which a model learns in a minute, and a small world of Moving Shapes,
generated, encoded with the demo's CLIP and learned with its recipe for a few epochs. Scores are those of the last
epoch on held-out videos. An interrupted call continues if it is given the same ``--folder``.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.planted import plant_charades

from r2tuning.ablation.grid import Axis, cross, load_cells, run_ablation
from r2tuning.ablation.table import Cell, format_markdown
from r2tuning.backbones import load_backbone
from r2tuning.datasets import Annotation, find_benchmark, load_annotations
from r2tuning.features.extraction import QueryTask, VideoTask, extract_queries, extract_videos
from r2tuning.features.store import FeatureStore
from r2tuning.synthetic.generate import synthesize
from r2tuning.synthetic.scenes import Split

PLANTED = {"train": 200, "test": 100}
SHAPES: dict[Split, int] = {"train": 60, "val": 40}
"""Videos of each split."""

SHORT = ["data.workers=0", "training.accelerator=cpu"]


def plant(folder: Path) -> list[str]:
    """Settings of the recipe for planted data."""
    if not folder.exists():
        plant_charades(folder, **PLANTED)
    model = ["model.layers=2", "model.hidden=64", "model.heads=4", "model.dropout=0", "decoding.unit=null"]
    steps = ["optimizer.lr=1e-3", "optimizer.warmup_steps=20", "training.batch_size=8"]
    return [*SHORT, *model, *steps, f"data.annotations={folder}", "training.epochs=5", "training.validate_every=5"]


def generate_shapes(folder: Path) -> list[str]:
    """Settings of the recipe for a small Moving Shapes."""
    benchmark = find_benchmark("moving-shapes")
    clip = load_backbone("r2tuning/demo", layers=2)
    store = FeatureStore.create(folder / "features", clip)
    for split, videos in SHAPES.items():
        synthesize(folder, videos, split=split)
        asked: list[Annotation] = load_annotations(folder / f"{split}.jsonl", benchmark)
        extract_queries([QueryTask(benchmark.query_name(a), a.query) for a in asked], store, clip)
        names = dict.fromkeys(benchmark.video_name(a) for a in asked)
        tasks = [VideoTask(name, folder / "videos" / f"{name}.mp4", 0.5) for name in names]
        if failures := extract_videos(tasks, store, clip).failures:
            sys.exit(f"{failures[0].name}: {failures[0].reason}")
    epochs = ["training.epochs=3", "training.validate_every=3", "optimizer.warmup_steps=20"]
    return [*SHORT, *epochs, f"data.annotations={folder}", "training.batch_size=24"]


def compare(recipe: str, settings: list[str], folder: Path, seeds: int) -> str:
    """Trains both starts with each seed, and returns the table."""
    cells = cross([Cell()], [Axis("model.init", ("released", "default"))])
    recipes = load_cells(recipe, settings, cells)
    return format_markdown(run_ablation(list(zip(cells, recipes, strict=True)), folder, range(seeds)), recipe, seeds)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="Where data and runs stay; by default they are removed.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        print("Planted:", compare("charades-sta", plant(folder / "planted"), folder / "planted-runs", options.seeds))
        shapes = generate_shapes(folder / "shapes")
        print("Moving Shapes:", compare("moving-shapes", shapes, folder / "shapes-runs", options.seeds))


if __name__ == "__main__":
    main()
