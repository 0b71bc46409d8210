"""Search across the videos of a split, for ``evaluate --corpus`` and ``calibrate --library``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2tuning.cli.options import show_progress
from r2tuning.cli.score import show_scores

if TYPE_CHECKING:
    from r2tuning.checkpoints import CheckpointConfig
    from r2tuning.datasets import Annotation
    from r2tuning.evaluation.ranking import Candidate
    from r2tuning.evaluation.splits import OpenSplit
    from r2tuning.metrics import CorpusPrediction
    from r2tuning.model import R2Tuning


def list_answerable(data: OpenSplit) -> list[Annotation]:
    """The queries of a split that have a moment."""
    return [annotation for annotation in data.annotations if not annotation.absent]


def search_split(
    config: CheckpointConfig, model: R2Tuning, data: OpenSplit, candidates: int, device: str | None
) -> list[list[Candidate]]:
    """Grounds the answerable queries of a split in those of its videos that the backbone finds nearest."""
    from r2tuning.backbones import choose_device, load_backbone
    from r2tuning.evaluation.ranking import search_videos
    from r2tuning.grounder import Grounder

    where = choose_device(device)
    backbone = load_backbone(config.backbone, layers=config.model.layers, device=where)
    videos = list({annotation.vid: annotation for annotation in data.annotations}.values())
    with show_progress("Searching", "pairs") as progress:
        return search_videos(
            Grounder(model.to(where), config, None),
            backbone,
            list_answerable(data),
            videos,
            data.benchmark,
            data.store,
            most=candidates,
            progress=progress,
        )


def rank_split(
    config: CheckpointConfig, model: R2Tuning, checkpoint: str, data: OpenSplit, candidates: int, device: str | None
) -> list[CorpusPrediction]:
    """Ranks what `search_split` finds by the checkpoint's calibration, or by the weights that all models have."""
    from r2tuning.checkpoints import find_checkpoint
    from r2tuning.checkpoints.folder import load_calibration
    from r2tuning.decoding.calibration import RankingMap
    from r2tuning.evaluation.ranking import rank_candidates

    calibration = load_calibration(find_checkpoint(checkpoint))
    ranking = RankingMap() if calibration is None or calibration.ranking is None else calibration.ranking
    return rank_candidates(list_answerable(data), search_split(config, model, data, candidates, device), ranking)


def report_corpus(
    recipe: str,
    model: str,
    data: OpenSplit,
    ranked: list[CorpusPrediction],
    candidates: int,
    *,
    json: str | None,
    force: bool,
) -> None:
    """Shows the metrics across videos."""
    from r2tuning.evaluation.corpus import to_corpus_truth
    from r2tuning.metrics import evaluate_corpus

    videos = len({annotation.vid for annotation in data.annotations})
    show_scores(
        f"{model} on {recipe}, {data.name} split, across {videos} videos",
        {"recipe": recipe, "split": data.name, "model": model, "videos": videos, "candidates": candidates},
        evaluate_corpus(ranked, to_corpus_truth(list_answerable(data))),
        len(ranked),
        json_file=json,
        force=force,
    )
