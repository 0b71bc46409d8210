"""Scores by what queries are about: ``python -m projects.moving_shapes.kinds PREDICTIONS ANNOTATIONS``.

Predictions are those of ``r2tuning evaluate --predictions``. The meaning of a query is not in the files; it is found by
making the script of its video again.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from projects.moving_shapes.shared import BENCHMARK, to_markdown, write_json
from r2tuning.datasets import Annotation, load_annotations, to_ground_truth
from r2tuning.errors import DataError
from r2tuning.evaluation.score import read_predictions
from r2tuning.metrics import Prediction, evaluate_grounding, match_predictions
from r2tuning.synthetic.queries import choose_queries, names_held_out
from r2tuning.synthetic.scenes import SPLITS, Script
from r2tuning.synthetic.semantics import Meaning
from r2tuning.synthetic.staging import make_video


class Kind(Enum):
    """What a query is about; the value is its name in tables."""

    PLACE = "place"
    LOOK = "look"
    ACTION = "action"
    CORNER = "corner"
    BESIDE = "beside"
    CIRCLE = "circle"
    TOGETHER = "together"


@dataclass(frozen=True)
class GroupScore:
    """R1@0.5, R1@0.7 and MR mAP of a group of queries, in percent; ``by`` is the kind of grouping."""

    by: str
    group: str
    queries: int
    r1_50: float
    r1_70: float
    mean_ap: float


def find_kind(meaning: Meaning) -> Kind:
    """What a query with this meaning is about: its most demanding part."""
    if not meaning.clauses:
        return Kind.PLACE
    if len(meaning.clauses) > 1:
        return Kind.TOGETHER
    (clause,) = meaning.clauses
    if clause.center is not None:
        return Kind.CIRCLE
    if clause.neighbor is not None:
        return Kind.BESIDE
    if clause.corner is not None:
        return Kind.CORNER
    return Kind.LOOK if clause.action is None else Kind.ACTION


def recall_meanings(annotations: Sequence[Annotation]) -> list[Meaning]:
    """The meanings of queries that have moments.

    Raises:
        DataError: If one is not a query of Moving Shapes, or of another version of the world.
    """
    meanings: dict[str, dict[str, Meaning]] = {}
    for annotation in annotations:
        if annotation.vid not in meanings:
            queries = choose_queries(recall_script(annotation.vid))
            meanings[annotation.vid] = {query.text: query.meaning for query in queries}
        if annotation.query not in meanings[annotation.vid]:
            raise DataError(
                f"{annotation.vid}: {annotation.query!r} is not a query of this video; make the annotations again with "
                "r2tuning synthesize"
            )
    return [meanings[annotation.vid][annotation.query] for annotation in annotations]


def recall_script(vid: str) -> Script:
    """The script of a video, by the video's name."""
    found = re.fullmatch(r"(\w+)-(\d{7,})", vid)
    split = next((split for split in SPLITS if found is not None and found[1] == split), None)
    if found is None or split is None:
        raise DataError(f"{vid}: is not a video of Moving Shapes; give annotations of r2tuning synthesize")
    return make_video(int(found[2]), split)


def score_groups(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], meanings: Sequence[Meaning]
) -> list[GroupScore]:
    """Scores of all queries, by kind, by whether training lacks a combination that they name, and by action.

    Raises:
        MetricError: If predictions and annotations do not match.
    """
    labels = {
        "all": ["all"] * len(meanings),
        "kind": [find_kind(meaning).value for meaning in meanings],
        "combination": ["unseen" if names_held_out(meaning) else "seen" for meaning in meanings],
        "action": [str(m.clauses[0].action.value) if m.clauses and m.clauses[0].action else "" for m in meanings],
    }
    order = [kind.value for kind in Kind]
    # Without ratings, only moments are scored.
    truths = [to_ground_truth(replace(annotation, saliency=None)) for annotation in annotations]
    answers = match_predictions(predictions, annotations, "error")
    scores = []
    for by, names in labels.items():
        groups = sorted(set(names) - {""}, key=lambda name: (order.index(name) if name in order else 0, name))
        for group in groups:
            chosen = [index for index, name in enumerate(names) if name == group]
            metrics = evaluate_grounding([answers[index] for index in chosen], [truths[index] for index in chosen])
            values = (metrics[f"MR-full-{name}"] for name in ("R1@0.5", "R1@0.7", "mAP"))
            scores.append(GroupScore(by, group, len(chosen), *values))
    return scores


def main() -> None:
    """Reads the files and prints the table."""
    parser = argparse.ArgumentParser(description="Scores by what queries are about.")
    parser.add_argument("predictions", type=Path, help="as r2tuning evaluate --predictions writes them")
    parser.add_argument("annotations", type=Path, help="such as shapes/test.jsonl")
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    arguments = parser.parse_args()
    annotations = load_annotations(arguments.annotations, BENCHMARK)
    predictions = read_predictions(arguments.predictions, annotations, moments=True)
    scores = score_groups(predictions, annotations, recall_meanings(annotations))
    write_json(arguments.json, {"annotations": arguments.annotations.name, "groups": list(map(asdict, scores))})
    rows = [[s.by, s.group, f"{s.queries}", f"{s.r1_50:.2f}", f"{s.r1_70:.2f}", f"{s.mean_ap:.2f}"] for s in scores]
    print(to_markdown(["by", "group", "queries", "R1@0.5", "R1@0.7", "mAP"], rows, texts=2))


if __name__ == "__main__":
    main()
