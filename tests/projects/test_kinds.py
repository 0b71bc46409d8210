"""Queries are grouped by kind, and the groups' scores add up to those of all."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from projects.moving_shapes.kinds import Kind, find_kind, recall_meanings, score_groups
from r2tuning.datasets import Annotation, to_ground_truth
from r2tuning.errors import DataError, MetricError
from r2tuning.evaluation.score import format_predictions
from r2tuning.metrics import Prediction, evaluate_grounding
from r2tuning.synthetic import describe, make_video
from r2tuning.synthetic.queries import choose_queries, names_held_out, to_line
from r2tuning.synthetic.scenes import Action, Color, Corner, Place, Shape
from r2tuning.synthetic.semantics import Clause, Look, Meaning

ROOT = Path(__file__).resolve().parents[2]
STAR = Look(Color.RED, Shape.STAR)


@pytest.fixture(scope="module")
def annotations() -> list[Annotation]:
    return [annotation for seed in range(6) for annotation in describe(make_video(seed, "test"))]


def answer(annotations: list[Annotation]) -> list[Prediction]:
    """Right about every third query, off by a little about the next, and wrong about the last."""
    answers = []
    for index, annotation in enumerate(annotations):
        start, end = annotation.moments[0]
        shift = (0.0, 0.35 * (end - start), 1000.0)[index % 3]
        answers.append(Prediction(annotation.qid, [[start + shift, end + shift, 0.5]]))
    return answers


@pytest.mark.parametrize(
    ("meaning", "kind"),
    [
        (Meaning(Place.SEA), Kind.PLACE),
        (Meaning(Place.SEA, (Clause(STAR),)), Kind.LOOK),
        (Meaning(None, (Clause(STAR, Action.FALL),)), Kind.ACTION),
        (Meaning(None, (Clause(STAR, Action.SPIN, corner=Corner.ANY),)), Kind.CORNER),
        (Meaning(None, (Clause(STAR, Action.REST, neighbor=Look(Color.BLUE)),)), Kind.BESIDE),
        (Meaning(None, (Clause(STAR, Action.CIRCLE, center=Look(Color.BLUE)),)), Kind.CIRCLE),
        (Meaning(None, (Clause(STAR, Action.CIRCLE, center=Look()), Clause(Look(Color.BLUE)))), Kind.TOGETHER),
    ],
)
def test_a_query_is_of_its_most_demanding_part(meaning: Meaning, kind: Kind) -> None:
    assert find_kind(meaning) is kind


def test_meanings_are_found_again(annotations: list[Annotation]) -> None:
    meanings = [query.meaning for seed in range(6) for query in choose_queries(make_video(seed, "test"))]
    assert recall_meanings(annotations) == meanings
    backwards = list(reversed(annotations))
    assert recall_meanings(backwards) == meanings[::-1]


def test_other_queries_are_refused(annotations: list[Annotation]) -> None:
    with pytest.raises(DataError, match=r"test-0000000: 'a cat' is not a query of this video; make"):
        recall_meanings([replace(annotations[0], query="a cat")])
    for vid in ("trip.mp4", "dev-0000001", "test-0000001-x", "test-1"):
        with pytest.raises(DataError, match=f"{vid}: is not a video of Moving Shapes"):
            recall_meanings([replace(annotations[0], vid=vid)])


def test_groups_are_scored_by_the_benchmarks_metrics(annotations: list[Annotation]) -> None:
    answers, meanings = answer(annotations), recall_meanings(annotations)
    scores = score_groups(list(reversed(answers)), annotations, meanings)
    truths = [to_ground_truth(annotation) for annotation in annotations]
    whole = scores[0]
    metrics = evaluate_grounding(answers, truths)
    assert (whole.by, whole.group, whole.queries) == ("all", "all", len(annotations))
    assert (whole.r1_50, whole.r1_70, whole.mean_ap) == tuple(
        metrics[f"MR-full-{name}"] for name in ("R1@0.5", "R1@0.7", "mAP")
    )
    for by in ("kind", "combination"):
        groups = [score for score in scores if score.by == by]
        assert sum(score.queries for score in groups) == whole.queries
        for name in ("r1_50", "r1_70", "mean_ap"):
            mean = sum(getattr(score, name) * score.queries for score in groups) / whole.queries
            assert mean == pytest.approx(getattr(whole, name), abs=0.011)  # each is rounded to 0.01
    unseen = next(score for score in scores if score.group == "unseen")
    assert unseen.queries == sum(map(names_held_out, meanings)) > 0
    order = [kind.value for kind in Kind]
    kinds = [score.group for score in scores if score.by == "kind"]
    assert kinds == sorted(kinds, key=order.index)
    told = sum(score.queries for score in scores if score.by == "action")
    assert told == sum(bool(m.clauses and m.clauses[0].action) for m in meanings)


def test_a_missing_answer_is_an_error(annotations: list[Annotation]) -> None:
    with pytest.raises(MetricError, match="no prediction for 1 query"):
        score_groups(answer(annotations)[1:], annotations, recall_meanings(annotations))


def test_the_script_reads_what_evaluate_writes(annotations: list[Annotation], tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("".join(map(to_line, annotations)), encoding="utf-8")
    text = format_predictions(answer(annotations), annotations)
    (tmp_path / "answers.jsonl").write_text(text, encoding="utf-8")
    arguments = [tmp_path / "answers.jsonl", tmp_path / "test.jsonl", "--json", tmp_path / "kinds.json"]
    command = [sys.executable, "-m", "projects.moving_shapes.kinds", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    groups = json.loads((tmp_path / "kinds.json").read_text())["groups"]
    assert len(done.stdout.splitlines()) == len(groups) + 2
    assert f"| all | all | {len(annotations)} | " in done.stdout
    assert groups[0]["queries"] == len(annotations)
