"""Scores by what queries are about: ``python -m projects.moving_shapes.kinds``.

Predictions are those that ``r2tuning evaluate --predictions`` writes. What a query means is not in the files; it is
found again by making its video's script anew.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from r2tuning.datasets import Annotation, find_benchmark, load_annotations, to_ground_truth
from r2tuning.errors import DataError
from r2tuning.evaluation.score import read_predictions
from r2tuning.files import write_atomically
from r2tuning.metrics import Prediction, evaluate_grounding, match_predictions
from r2tuning.synthetic.queries import choose_queries, names_held_out
from r2tuning.synthetic.scenes import SPLITS
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
    """How well some queries are answered, in percent.

    Attributes:
        by: What the group is one of: ``all``, ``kind``, ``combination`` or ``action``.
        group: Its name.
        queries: How many there are.
        r1_50: R1@0.5.
        r1_70: R1@0.7.
        mean_ap: MR mAP.
    """

    by: str
    group: str
    queries: int
    r1_50: float
    r1_70: float
    mean_ap: float


def find_kind(meaning: Meaning) -> Kind:
    """What a query with this meaning is about: its most demanding part.

    Example:
        >>> from r2tuning.synthetic.scenes import Place
        >>> find_kind(Meaning(Place.SEA))
        <Kind.PLACE: 'place'>
    """
    if not meaning.clauses:
        return Kind.PLACE
    if len(meaning.clauses) > 1:
        return Kind.TOGETHER
    (clause,) = meaning.clauses
    parts = (clause.center, Kind.CIRCLE), (clause.neighbor, Kind.BESIDE), (clause.corner, Kind.CORNER)
    return next(
        (kind for part, kind in (*parts, (clause.action, Kind.ACTION)) if part is not None),
        Kind.LOOK,
    )


def recall_meanings(annotations: Sequence[Annotation]) -> list[Meaning]:
    """What the queries mean, one meaning for each.

    Args:
        annotations: Of videos of Moving Shapes; not of queries that are true of no moment.

    Raises:
        DataError: If one is no query of Moving Shapes, or was made by another version of the world.
    """
    meanings: dict[str, dict[str, Meaning]] = {}
    for annotation in annotations:
        if annotation.vid not in meanings:
            meanings[annotation.vid] = _meanings_by_text(annotation.vid)
        if annotation.query not in meanings[annotation.vid]:
            raise DataError(
                f"{annotation.vid}: {annotation.query!r} is not asked of this video; make the annotations anew with "
                "r2tuning synthesize"
            )
    return [meanings[annotation.vid][annotation.query] for annotation in annotations]


def _meanings_by_text(vid: str) -> dict[str, Meaning]:
    found = re.fullmatch(rf"({'|'.join(SPLITS)})-(\d{{7,}})", vid)
    if found is None:
        raise DataError(f"{vid}: is no video of Moving Shapes; give annotations that r2tuning synthesize made")
    split = next(split for split in SPLITS if split == found[1])
    return {query.text: query.meaning for query in choose_queries(make_video(int(found[2]), split))}


def score_groups(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], meanings: Sequence[Meaning]
) -> list[GroupScore]:
    """Scores of all queries, then by kind, by whether training lacks a combination they name, and by action.

    Args:
        predictions: One per annotation, in any order.
        annotations: With moments.
        meanings: One per annotation.

    Raises:
        MetricError: If predictions and annotations do not match.
    """
    labels = {
        "all": ["all"] * len(meanings),
        "kind": [find_kind(meaning).value for meaning in meanings],
        "combination": ["unseen" if names_held_out(meaning) else "seen" for meaning in meanings],
        "action": [_first_action(meaning) for meaning in meanings],
    }
    order = [kind.value for kind in Kind]
    # Without ratings only moments are scored, which takes a third of the time.
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


def _first_action(meaning: Meaning) -> str:
    """What the first actor does; empty where the query does not say."""
    action = meaning.clauses[0].action if meaning.clauses else None
    return "" if action is None else action.value


def format_scores(scores: Sequence[GroupScore]) -> str:
    """The scores as a Markdown table.

    Example:
        >>> print(format_scores([GroupScore("kind", "place", 12, 100, 91.67, 95.5)]), end="")
        | by | group | queries | R1@0.5 | R1@0.7 | mAP |
        |---|---|---:|---:|---:|---:|
        | kind | place | 12 | 100.00 | 91.67 | 95.50 |
    """
    lines = ["| by | group | queries | R1@0.5 | R1@0.7 | mAP |", "|---|---|---:|---:|---:|---:|"]
    lines += [f"| {s.by} | {s.group} | {s.queries} | {s.r1_50:.2f} | {s.r1_70:.2f} | {s.mean_ap:.2f} |" for s in scores]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Reads the files and prints the table."""
    parser = argparse.ArgumentParser(description="Scores by what queries are about.")
    parser.add_argument("predictions", type=Path, help="as r2tuning evaluate --predictions writes them")
    parser.add_argument("annotations", type=Path, help="such as shapes/test.jsonl")
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    arguments = parser.parse_args()
    annotations = load_annotations(arguments.annotations, find_benchmark("moving-shapes"))
    predictions = read_predictions(arguments.predictions, annotations, moments=True)
    scores = score_groups(predictions, annotations, recall_meanings(annotations))
    if arguments.json is not None:
        content = {"annotations": arguments.annotations.name, "groups": [asdict(score) for score in scores]}
        write_atomically(arguments.json, json.dumps(content, indent=2) + "\n", force=True)
    print(format_scores(scores), end="")


if __name__ == "__main__":
    main()
