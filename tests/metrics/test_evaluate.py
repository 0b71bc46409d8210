import json
import random
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from support.files import shared_file
from support.reference_metrics import PRECISION_IOUS, moment_average_precision

from r2tuning.errors import MetricError
from r2tuning.metrics import BRIEF, GroundTruth, Prediction, evaluate_grounding

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "qvhighlights_metrics.json").read_text(encoding="utf-8"))
TRUTH = {
    "qid": 1,
    "duration": 20,
    "relevant_windows": [[0, 10]],
    "relevant_clip_ids": [0, 1],
    "saliency_scores": [[4, 4, 4], [2, 0, 0]],
}
ANSWER = {
    "qid": 1,
    "pred_relevant_windows": [[0, 8, 0.9]],
    "pred_saliency_scores": [0.9, 0.8, 0.1, 0, 0, 0, 0, 0, 0, 0],
}


def read(name: str) -> list[dict[str, Any]]:
    with shared_file(f"annotations/{name}").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@cache
def sample() -> tuple[list[Prediction], list[GroundTruth]]:
    """Moment-DETR's answers to the 1550 validation queries of QVHighlights."""
    answers = read("qvhighlights_val_moment_detr_predictions.jsonl")
    truths = read("qvhighlights_val.jsonl")
    return [Prediction.from_json(line) for line in answers], [GroundTruth.from_json(line) for line in truths]


def expected() -> dict[str, float]:
    """The golden file, flattened to the names that evaluate_grounding gives."""
    golden = GOLDEN["moment_detr_sample_val"]
    flat = dict(golden["brief"])
    for group, values in golden.items():
        if group.startswith("HL-"):
            flat |= {f"{group}-{key.removeprefix('HL-')}": value for key, value in values.items()}
        elif group != "brief":
            for key, value in values.items():
                metric = f"MR-{group}-{key.removeprefix('MR-')}"
                of_threshold = value if isinstance(value, dict) else {"average": value}
                flat |= {metric + (f"@{t}" if t != "average" else ""): number for t, number in of_threshold.items()}
    return flat


def test_golden() -> None:
    assert len(expected()) == 166
    assert evaluate_grounding(*sample()) == expected()


def test_golden_from_mappings() -> None:
    predictions, truths = read("qvhighlights_val_moment_detr_predictions.jsonl"), read("qvhighlights_val.jsonl")
    assert evaluate_grounding(predictions, truths) == expected()


def test_brief_names_what_papers_print() -> None:
    of_qvhighlights = {name for name in BRIEF if not name.startswith("GMR-")}
    assert of_qvhighlights == set(GOLDEN["moment_detr_sample_val"]["brief"])
    assert len(BRIEF) == len(set(BRIEF))
    assert of_qvhighlights <= set(expected())


def test_order_of_queries_does_not_matter() -> None:
    predictions, truths = sample()
    shuffled = random.Random(0).sample(predictions, len(predictions))
    assert evaluate_grounding(shuffled, truths[::-1]) == evaluate_grounding(predictions, truths)


def test_order_of_distinct_scores_does_not_matter_to_map() -> None:
    predictions, truths = sample()
    distinct = [p for p in predictions if len(set(p.windows[:, 2])) == len(p.windows)]
    assert len(distinct) > 200
    kept = {p.qid for p in distinct}
    truths = [truth for truth in truths if truth.qid in kept]
    turned = [Prediction(p.qid, p.windows[::-1], p.saliency) for p in distinct]
    before, after = evaluate_grounding(distinct, truths), evaluate_grounding(turned, truths)
    of_map = {name for name in before if "mAP" in name}
    assert {name: after[name] for name in of_map} == {name: before[name] for name in of_map}
    assert after["MR-full-R1@0.5"] < before["MR-full-R1@0.5"]


def test_emptying_the_worst_answers_never_raises_a_metric() -> None:
    predictions, truths = sample()
    true = {truth.qid: truth.windows.tolist() for truth in truths}

    def precision(prediction: Prediction) -> float:
        answers = prediction.windows.tolist()
        return mean(moment_average_precision(answers, true[prediction.qid], t) for t in PRECISION_IOUS)

    worst = {prediction.qid for prediction in sorted(predictions, key=precision)[:500]}
    emptied = [Prediction(p.qid, [], []) if p.qid in worst else p for p in predictions]
    dropped = [p for p in predictions if p.qid not in worst]
    before, after = evaluate_grounding(predictions, truths), evaluate_grounding(emptied, truths)
    assert before.keys() == after.keys()
    assert {name for name in before if after[name] > before[name]} == set()
    assert evaluate_grounding(dropped, truths, missing="zero") == after
    with pytest.raises(MetricError, match=r"^no prediction for 500 queries \(\d+, \d+, \d+, \d+, \d+, …\) of 1550; "):
        evaluate_grounding(dropped, truths)


def test_perfect_answers_score_100() -> None:
    _, truths = sample()
    perfect = [Prediction(t.qid, [[*window, 1.0] for window in t.windows.tolist()][:10]) for t in truths]
    metrics = evaluate_grounding(perfect, truths)
    assert metrics["MR-full-mIoU"] == metrics["MR-full-R1@0.95"] == 100
    # Queries with more than ten true moments cannot be answered in full.
    assert metrics["MR-full-mAP"] == pytest.approx(
        100 * mean(min(10, len(t.windows)) / len(t.windows) for t in truths), rel=0, abs=0.00501
    )


def test_empty_answers_score_0() -> None:
    empty = {"qid": 1, "pred_relevant_windows": [], "pred_saliency_scores": []}
    for predictions, missing in (([empty], "error"), ([], "zero")):
        metrics = evaluate_grounding(predictions, [TRUTH], missing=missing)
        assert metrics.keys() == evaluate_grounding([ANSWER], [TRUTH]).keys()
        assert set(metrics.values()) == {0.0}


def test_highlights_are_scored_where_there_are_labels_and_answers() -> None:
    unlabelled = {"qid": 2, "duration": 20, "relevant_windows": [[0, 10]]}
    moments_only = {key: value for key, value in ANSWER.items() if key != "pred_saliency_scores"}
    both = evaluate_grounding([ANSWER, moments_only | {"qid": 2}], [TRUTH, unlabelled])
    assert both["HL-min-VeryGood-Hit1"] == both["HL-min-VeryGood-mAP"] == 100
    assert not any(name.startswith("HL") for name in evaluate_grounding([moments_only], [TRUTH]))
    assert not any(name.startswith("HL") for name in evaluate_grounding([ANSWER | {"qid": 2}], [unlabelled]))


def test_queries_without_moments_are_scored_for_highlights_only() -> None:
    metrics = evaluate_grounding([ANSWER], [TRUTH | {"relevant_windows": []}])
    assert {name.split("-")[0] for name in metrics} == {"HL"}
    mixed = [TRUTH, TRUTH | {"qid": 2, "relevant_windows": []}]
    assert evaluate_grounding([ANSWER, ANSWER | {"qid": 2}], mixed)["MR-full-mIoU"] == 80.0


@pytest.mark.parametrize(
    ("predictions", "truths", "message"),
    [
        ([], [TRUTH], r"^no prediction for 1 query \(1\) of 1; predict them, or count them as 0 with missing='zero'$"),
        ([ANSWER, ANSWER], [TRUTH], r"^predictions repeat 1 query \(1\); keep one of each$"),
        ([ANSWER], [TRUTH, TRUTH], r"^ground truths repeat 1 query \(1\); keep one of each$"),
        ([ANSWER, ANSWER | {"qid": "a"}], [TRUTH], r"^predictions for 1 query \('a'\) that the ground truth lacks; "),
        ([], [], r"^the ground truth has no moments and no labels \(queries: 0\); annotate some$"),
        ([ANSWER], [{"qid": 1, "duration": 5}], r"^the ground truth has no moments and no labels \(queries: 1\)"),
        ([ANSWER | {"pred_relevant_windows": [[5, 4, 1]]}], [TRUTH], r"^prediction for query 1: moment 1 starts at 5"),
    ],
)
def test_what_cannot_be_scored_is_refused(predictions: list[Any], truths: list[Any], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        evaluate_grounding(predictions, truths)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(MetricError, match=r"^missing is 'skip'; give 'error' or 'zero'$"):
        evaluate_grounding([ANSWER], [TRUTH], missing="skip")  # type: ignore[arg-type]
