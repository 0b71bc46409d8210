"""Measures options of training under one protocol: ``python -m projects.moving_shapes.options DATA CORPUS FOLDER``.

DATA is a folder of `features` with the splits train, val and test, CORPUS one with the ``truth.jsonl`` of `corpus`.
Every cell changes one setting of a short training on a fixed subset. It starts from the block of the demo model, which
knows words and movement, with a new pyramid and new heads, which leaves room to improve. Runs go to FOLDER and are
continued there; parts of the table may run side by side with ``--cells``.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from projects.moving_shapes.calibration import are_unseen, find_elsewhere
from projects.moving_shapes.shared import BENCHMARK, open_features, read_split, to_markdown, write_json
from r2tuning.ablation.grid import load_cells, run_ablation
from r2tuning.ablation.table import HEADINGS, Cell, summarize_runs
from r2tuning.backbones import load_backbone
from r2tuning.checkpoints import read_checkpoint
from r2tuning.checkpoints.folder import save_checkpoint
from r2tuning.datasets import Annotation, load_annotations
from r2tuning.decoding.calibration import RankingMap
from r2tuning.evaluation.corpus import read_corpus_truth
from r2tuning.evaluation.predict import predict, see_whole
from r2tuning.evaluation.ranking import rank_candidates, search_videos
from r2tuning.evaluation.score import score_predictions
from r2tuning.evaluation.splits import absent_file
from r2tuning.files import write_atomically
from r2tuning.grounder import Grounder
from r2tuning.intervals import FloatArray
from r2tuning.metrics import Prediction, evaluate_corpus
from r2tuning.metrics.reliability import auroc
from r2tuning.model import R2Tuning

VIDEOS, PRESENT, ABSENT = 120, 8, 4
"""Of the subset: videos, and queries of each that are true of a moment and of none."""

RANKING = RankingMap(moment=1, saliency=0, head=1, cosine=0, offset=0)

SHARED = (
    "name=options",
    "model.presence=true",
    "data.absent=true",
    "data.negatives=0.25",
    "data.queries_per_video=12",
    "data.workers=0",
    "losses.presence=0.5",
    "training.epochs=1",
    "training.batch_size=24",
    "training.ema=0.9",
    "optimizer.lr=1e-3",
    "optimizer.warmup_steps=5",
    "optimizer.drop_epochs=[]",
)
"""Settings of all cells."""

CELLS: dict[str, tuple[tuple[str, str], ...]] = {
    "baseline": (),
    "without EMA": (("training.ema", "null"),),
    "4 queries per video": (("data.queries_per_video", "4"),),
    "without one-word negatives": (("data.absent", "false"), ("data.annotations", "{present}")),
    "without queries of other videos": (("data.negatives", "0"),),
}

COLUMNS = {
    **{name: HEADINGS[name] for name in ("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP")},
    "HL-min-VeryGood-mAP": "HD mAP",
    "HL-min-VeryGood-Hit1": "Hit@1",
    "presence-word": "AUROC: one word",
    "presence-word-seen": "seen",
    "presence-word-unseen": "unseen",
    "presence-video": "other video",
    "VCMR-R1@0.5": "VCMR R@1",
    "VCMR-R10@0.5": "VCMR R@10",
}


def take_subset(
    data: Path, folder: Path, videos: int, present: int, absent: int = 0, *, val: int = 20, skip: int = 0
) -> None:
    """Writes annotations of a few queries of each of some training videos, and the first queries of val.

    Videos are the first that have `PRESENT` + `ABSENT` queries and `ABSENT` absent ones, so that subsets with other
    numbers of queries have the same videos; ``skip`` of them are left out.
    """
    there, missing = (_group_lines(data / name) for name in ("train.jsonl", "train_absent.jsonl"))
    fit = (vid for vid, rows in there.items() if len(rows) >= PRESENT + ABSENT and len(missing[vid]) >= ABSENT)
    vids = list(islice(fit, skip, skip + videos))
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows, count in (("train", there, present), ("train_absent", missing, absent)):
        lines = [line for vid in vids for line in rows[vid][:count]]
        write_atomically(folder / f"{name}.jsonl", "".join(lines), force=True)
    few = BENCHMARK.find_file(data, "val").read_text(encoding="utf-8").splitlines(keepends=True)[:val]
    write_atomically(folder / "val.jsonl", "".join(few), force=True)


def _group_lines(file: Path) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        rows[json.loads(line)["vid"]].append(line)
    return rows


def renew_heads(checkpoint: str, folder: Path) -> None:
    """Writes a checkpoint with the block and the pooling of queries of another, and random weights elsewhere."""
    config, model = read_checkpoint(checkpoint)
    torch.manual_seed(0)
    fresh = R2Tuning(model.config).state_dict()
    kept = {n: value for n, value in model.state_dict().items() if n.startswith(("block.", "query_pooling."))}
    save_checkpoint(folder, fresh | kept, config)


def find_negatives(data: Path, file: Path) -> None:
    """Looks up once what all runs are measured on: every third query of another video, and unseen combinations."""
    elsewhere = find_elsewhere(read_split(data, "test"))
    pairs = zip(elsewhere.queries[::3], elsewhere.videos[::3], strict=True)
    found = {
        "elsewhere": [(str(query.qid), video.vid) for query, video in pairs],
        "unseen": are_unseen(_read_absent(data)).tolist(),
    }
    write_atomically(file, json.dumps(found), force=True)


def measure_run(data: Path, corpus: Path, negatives: Path, run: Path) -> dict[str, float]:
    """All `COLUMNS` of the last checkpoint of a run, in percent; measured once."""
    done = run / "measured.json"
    if done.is_file():
        found: dict[str, float] = json.loads(done.read_text(encoding="utf-8"))
        return found
    config, model = read_checkpoint(str(run / "last"))
    grounder, store = Grounder(model, see_whole(config), None), open_features(data)
    annotations = read_split(data, "test")
    predictions = predict(grounder, annotations, BENCHMARK, store)
    scores = score_predictions(predictions, annotations, BENCHMARK)
    there, word = _presence(predictions), _presence(predict(grounder, _read_absent(data), BENCHMARK, store))
    known = json.loads(negatives.read_text(encoding="utf-8"))
    queries, videos = {str(a.qid): a for a in annotations}, {a.vid: a for a in annotations}
    asked, places = zip(*((queries[qid], videos[vid]) for qid, vid in known["elsewhere"]), strict=True)
    unseen = np.array(known["unseen"])
    separate = {
        "presence-word": word,
        "presence-word-seen": word[~unseen],
        "presence-word-unseen": word[unseen],
        "presence-video": _presence(predict(grounder, asked, BENCHMARK, store, videos=places)),
    }
    scores |= {name: 100 * auroc(there, values) for name, values in separate.items()}
    scores |= search_corpus(grounder, corpus)
    write_json(done, scores)
    return scores


def _read_absent(data: Path) -> list[Annotation]:
    file = absent_file(BENCHMARK.find_file(data, "test"))
    assert file is not None  # `features` writes it
    return load_annotations(file, BENCHMARK)


def search_corpus(grounder: Grounder, corpus: Path) -> dict[str, float]:
    """Asks every query of every video; moments are ranked by the log-odds of their score and of presence."""
    truths = read_corpus_truth(corpus / "truth.jsonl", BENCHMARK)
    annotations = {str(annotation.qid): annotation for annotation in read_split(corpus, "val")}
    videos = list({a.vid: a for a in annotations.values()}.values())
    queries = [annotations[str(truth.qid)] for truth in truths]
    backbone, store = load_backbone(grounder.config.backbone), open_features(corpus)
    found = search_videos(grounder, backbone, queries, videos, BENCHMARK, store, most=None)
    return evaluate_corpus(rank_candidates(queries, found, RANKING), truths)


def _presence(predictions: Sequence[Prediction]) -> FloatArray:
    return np.array([prediction.presence for prediction in predictions], dtype=np.float64)


def tabulate_options(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Two tables of the runs of each cell: mean ± standard deviation of `COLUMNS`, and of the differences to the first.

    Runs of one seed see the same data in the same order, so that differences vary less.
    """
    first = next(iter(found.values()))
    differences = {
        name: [{c: run[c] - same[c] for c in COLUMNS} for run, same in zip(runs, first, strict=False)]
        for name, runs in found.items()
        if runs is not first
    }
    tables = [
        to_markdown([title, *COLUMNS.values()], [[name, *_describe(runs, sign)] for name, runs in cells.items()])
        for title, cells, sign in (("", found, ""), ("difference to it", differences, "+"))
        if cells
    ]
    return "\n\n".join(tables)


def _describe(runs: Sequence[Mapping[str, float]], sign: str) -> list[str]:
    spread = summarize_runs(runs)
    return [
        f"{spread[column].mean:{sign}.1f}" + ("" if (more := spread[column].deviation) is None else f" ± {more:.1f}")
        for column in COLUMNS
    ]


def main() -> None:
    """Trains and measures the cells, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the features of train, val and test")
    parser.add_argument("corpus", type=Path, help="folder of a corpus, see projects.moving_shapes.ranking")
    parser.add_argument("folder", type=Path, help="where runs go")
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    start, present, negatives = (options.folder / name for name in ("start", "present", "negatives.json"))
    if not start.is_dir():
        find_negatives(options.data, negatives)
        take_subset(options.data, options.folder / "few", VIDEOS, PRESENT, ABSENT)
        take_subset(options.data, present, VIDEOS, PRESENT + ABSENT)
        renew_heads("demo", start)
    cells = [Cell(tuple((key, value.format(present=present)) for key, value in CELLS[name])) for name in options.cells]
    shared = [
        *SHARED,
        f"training.start_from={start}",
        f"data.annotations={options.folder / 'few'}",
        f"data.features={options.data / 'features'}",
    ]
    grid = list(zip(cells, load_cells("moving-shapes", shared, cells), strict=True))
    done = run_ablation(
        grid,
        options.folder / "runs",
        range(options.seeds),
        measure=partial(measure_run, options.data, options.corpus, negatives),
    )
    names = dict(zip(cells, options.cells, strict=True))
    found = {names[result.cell]: [{c: run[c] for c in COLUMNS} for run in result.runs] for result in done.results}
    if found:
        print(tabulate_options(found))
    for cell, reason in done.failed:
        print(f"{names[cell]}: {reason}")
    write_json(options.json, found)


if __name__ == "__main__":
    main()
