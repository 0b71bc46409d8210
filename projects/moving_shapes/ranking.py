"""Ranks the moments of a corpus by several scores: ``python -m projects.moving_shapes.ranking DATA CHECKPOINT``.

DATA is a folder of `features` with the ``truth.jsonl`` of `corpus`. Every query is asked of every video. The weights of
combined scores are fitted to another corpus, by logistic regression of the best moment of a pair being right.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from projects.moving_shapes.shared import BENCHMARK, open_features, read_split, to_markdown, write_json
from r2tuning.backbones import load_backbone
from r2tuning.checkpoints import find_checkpoint, read_checkpoint
from r2tuning.checkpoints.folder import CALIBRATION_FILE, CalibrationRecord, save_calibration
from r2tuning.cli.options import show_progress
from r2tuning.datasets import Annotation
from r2tuning.decoding.calibration import RankingMap
from r2tuning.errors import CheckpointError
from r2tuning.evaluation.corpus import read_corpus_truth
from r2tuning.evaluation.predict import see_whole
from r2tuning.evaluation.ranking import EVIDENCE, Candidate, fit_ranking, rank_candidates, search_videos
from r2tuning.files import read_model
from r2tuning.grounder import Grounder
from r2tuning.metrics import CorpusTruth, evaluate_corpus

SHOWN = ("VCMR-R1@0.5", "VCMR-R5@0.5", "VCMR-R10@0.5", "VCMR-R1@0.7", "VCMR-R10@0.7", "VR-R1", "NDCG10@0.5")

WAYS: dict[str, tuple[str, ...]] = {
    "score": ("moment",),
    "score and presence": ("moment", "head"),
    "score, saliency and presence": ("moment", "saliency", "head"),
    "cosine": ("cosine",),
    "score, saliency and cosine": ("moment", "saliency", "cosine"),
    "all": EVIDENCE,
}


def ask_corpus(
    data: Path, split: str, checkpoint: str, most: int | None = None
) -> tuple[list[Annotation], list[list[Candidate]], list[CorpusTruth]]:
    """Asks the queries of the truth of every video, or of the ``most`` nearest."""
    config, model = read_checkpoint(checkpoint)
    grounder, backbone = Grounder(model, see_whole(config), None), load_backbone(config.backbone)
    truths = read_corpus_truth(data / "truth.jsonl", BENCHMARK)
    annotations = {str(annotation.qid): annotation for annotation in read_split(data, split)}
    queries = [annotations[str(truth.qid)] for truth in truths]
    videos: list[Annotation] = list({a.vid: a for a in annotations.values()}.values())
    store = open_features(data)
    with show_progress("Grounding", "pairs") as progress:
        found = search_videos(grounder, backbone, queries, videos, BENCHMARK, store, most=most, progress=progress)
    return queries, found, truths


def main() -> None:
    """Prints a table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the corpus to rank")
    parser.add_argument("checkpoint", help="name or folder")
    parser.add_argument("--fit", type=Path, required=True, help="folder of the corpus to fit weights to")
    parser.add_argument("--split", default="val", help="of the corpus to rank")
    parser.add_argument("--fit-split", default="val", help="of the corpus to fit to")
    parser.add_argument("--candidates", type=int, help="ask only so many videos, which the backbone finds nearest")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--save", action="store_true", help="put the weights of all into the checkpoint's calibration")
    options = parser.parse_args()
    _, fitted, fitted_truths = ask_corpus(options.fit, options.fit_split, options.checkpoint, options.candidates)
    queries, asked, truths = ask_corpus(options.data, options.split, options.checkpoint, options.candidates)
    has_head = any(candidate.evidence[1] for candidates in fitted for candidate in candidates)
    results = {}
    for way, names in WAYS.items():
        if "head" in names and not has_head:
            continue
        ranking = fit_ranking(fitted, fitted_truths, names)
        scores = evaluate_corpus(rank_candidates(queries, asked, ranking), truths)
        results[way] = {"weights": ranking.model_dump(), **scores}
    rows = [[way, *(f"{scores[name]:.1f}" for name in SHOWN)] for way, scores in results.items()]
    print(to_markdown(["ranked by", *SHOWN], rows))
    write_json(options.json, results)
    if options.save:
        save_ranking(find_checkpoint(options.checkpoint), fit_ranking(fitted, fitted_truths), len(fitted))


def save_ranking(folder: Path, ranking: RankingMap, queries: int) -> None:
    """Puts a ranking into the calibration of a checkpoint folder, which must have one."""
    advice = "run r2tuning calibrate first"
    record = read_model(folder / CALIBRATION_FILE, CalibrationRecord, CheckpointError, advice)
    said = f"{record.fitted_on.partition('; ranking')[0]}; ranking: {queries} queries across videos"
    save_calibration(folder, record.calibration.model_copy(update={"ranking": ranking}), said, force=True)


if __name__ == "__main__":
    main()
