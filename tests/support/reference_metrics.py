"""The metrics once more, one query, moment and clip at a time, as a reader of the definitions would write them."""

import math
from statistics import mean, median

from r2tuning.metrics import CorpusPrediction, CorpusTruth, GroundTruth, Prediction

RECALL_IOUS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
PRECISION_IOUS = RECALL_IOUS[4:]


def iou(a: list[float], b: list[float]) -> float:
    intersection = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - intersection
    return intersection / union if union > 0 else 0.0


def moment_average_precision(answers: list[list[float]], true: list[list[float]], threshold: float) -> float:
    """AP of one query at one threshold."""
    used: set[int] = set()
    found = []
    for answer in sorted(answers[:10], key=lambda row: -row[2]):
        free = [index for index in range(len(true)) if index not in used]
        best = max(free, key=lambda index: iou(answer, true[index]), default=None)
        hit = best is not None and iou(answer, true[best]) >= threshold
        if hit:
            used.add(best)
        found.append(hit)
    precision = [sum(found[: rank + 1]) / (rank + 1) for rank in range(len(found))]
    return sum(max(precision[rank:]) / len(true) for rank, hit in enumerate(found) if hit)


def moment_metrics(predictions: list[Prediction], ground_truth: list[GroundTruth]) -> dict[str, float]:
    """Every MR metric as a fraction."""
    metrics = {}
    in_range = {
        "full": lambda length: True,
        "short": lambda length: 0 < length <= 10,
        "middle": lambda length: 10 < length <= 30,
        "long": lambda length: length > 30,
    }
    for name, keep in in_range.items():
        pairs = []
        for prediction, annotation in zip(predictions, ground_truth, strict=True):
            true = [window for window in annotation.windows.tolist() if keep(window[1] - window[0])]
            if true:
                pairs.append((prediction.windows.tolist(), true))
        if not pairs:
            continue
        for top in (1, 5):
            best = [max((iou(a, t) for a in answers[:top] for t in true), default=0.0) for answers, true in pairs]
            for threshold in RECALL_IOUS:
                metrics[f"MR-{name}-R{top}@{threshold}"] = mean(value >= threshold for value in best)
            if top == 1:
                metrics[f"MR-{name}-mIoU"] = mean(best)
        for threshold in PRECISION_IOUS:
            values = [moment_average_precision(answers, true, threshold) for answers, true in pairs]
            metrics[f"MR-{name}-mAP@{threshold}"] = mean(values)
        metrics[f"MR-{name}-mAP"] = mean(metrics[f"MR-{name}-mAP@{threshold}"] for threshold in PRECISION_IOUS)
    return metrics


def highlight_average_precision(scores: list[float], positive: list[bool]) -> float:
    """AP of one query and worker: one point per distinct score, then the best precision from each recall level on."""
    if not any(positive):
        return 0.0
    points = []
    for threshold in set(scores):
        chosen = [hit for score, hit in zip(scores, positive, strict=True) if score >= threshold]
        points.append((sum(chosen), sum(chosen) / len(chosen)))
    levels = {hits for hits, _ in points if hits}
    return mean(max(precision for hits, precision in points if hits >= level) for level in levels)


def highlight_metrics(predictions: list[Prediction], ground_truth: list[GroundTruth]) -> dict[str, float]:
    """Every HD metric of QVHighlights as a fraction."""
    metrics = {}
    for name, lowest in (("Fair", 2), ("Good", 3), ("VeryGood", 4)):
        precisions, hits = [], []
        for prediction, annotation in zip(predictions, ground_truth, strict=True):
            count = int(annotation.duration / 2)
            labels = [[0.0, 0.0, 0.0] for _ in range(count)]
            for clip, row in zip(annotation.clip_ids.tolist(), annotation.saliency.tolist(), strict=True):
                labels[clip] = row
            given = [] if prediction.saliency is None else prediction.saliency.tolist()
            if not given:
                precisions += [0.0] * 3
                hits.append(False)
                continue
            padded = (given + [0.0] * count)[:count]
            for worker in range(3):
                precisions.append(highlight_average_precision(padded, [row[worker] >= lowest for row in labels]))
            top = given.index(max(given))
            hits.append(top < count and max(labels[top]) >= lowest)
        metrics[f"HL-min-{name}-mAP"] = mean(precisions)
        metrics[f"HL-min-{name}-Hit1"] = mean(hits)
    return metrics


def trapezoid_area(scores: list[float], positive: list[bool], top: int | None = None) -> float:
    """Walks down the ranking and adds a trapezoid per clip."""
    ranking = sorted(range(len(scores)), key=lambda index: -scores[index])[:top]
    total = sum(positive[index] for index in ranking)
    if total == 0:
        return 0.0
    area, recall, precision, hits = 0.0, 0.0, 1.0, 0
    for rank, index in enumerate(ranking, 1):
        hits += positive[index]
        area += (hits / total - recall) * (hits / rank + precision) / 2
        recall, precision = hits / total, hits / rank
    return area


def top5_area(scores: list[float], ratings: list[list[float]]) -> float:
    """TVSum's AP of one video, over its raters."""
    raters = list(zip(*ratings, strict=True))
    return mean(trapezoid_area(scores, [value > median(rater) for value in rater], 5) for rater in raters)


def set_iou(answers: list[list[float]], true: list[list[float]]) -> float:
    """IoU of two sets of moments; each answer takes the free true moment that it overlaps most."""
    if not answers and not true:
        return 1.0
    used: set[int] = set()
    total = 0.0
    for answer in answers:
        best, highest = None, 0.0
        for index, moment in enumerate(true):
            if index not in used and iou(answer, moment) > highest:
                best, highest = index, iou(answer, moment)
        if best is not None:
            used.add(best)
            total += highest
    return total / (len(answers) + len(true) - len(used))


def pairwise_auroc(positive: list[float], negative: list[float]) -> float:
    """Every pair of a positive and a negative; an equal pair counts half."""
    return mean((p > n) + (p == n) / 2 for p in positive for n in negative)


def stepwise_average_precision(positive: list[float], negative: list[float]) -> float:
    """Lowers a threshold over all scores and adds precision times the recall gained."""
    total, recall = 0.0, 0.0
    for threshold in sorted({*positive, *negative}, reverse=True):
        right = sum(score >= threshold for score in positive)
        wrong = sum(score >= threshold for score in negative)
        total += (right / len(positive) - recall) * right / (right + wrong)
        recall = right / len(positive)
    return total


def generalized_metrics(
    predictions: list[Prediction], ground_truth: list[GroundTruth], threshold: float
) -> dict[str, float]:
    """Every GMR metric as a fraction; every prediction has presence, and no query has labels."""
    metrics = {}
    pairs = list(zip(predictions, ground_truth, strict=True))
    for top in (1, 3, 5):
        scores = []
        for prediction, truth in pairs:
            answers = prediction.windows.tolist()[:top] if prediction.presence >= threshold else []
            scores.append(set_iou(answers, truth.windows.tolist()))
        metrics[f"G-mIoU@{top}"] = mean(scores)
    right = rejected = absent = 0
    for prediction, truth in pairs:
        is_rejected = prediction.presence < threshold or len(prediction.windows) == 0
        is_absent = len(truth.windows) == 0
        rejected += is_rejected
        absent += is_absent
        right += is_rejected and is_absent
    metrics["Rej-P"] = right / rejected if rejected else 0.0
    metrics["Rej-R"] = right / absent
    # F1 from the counts: 2 TP / (2 TP + FP + FN)
    metrics["Rej-F1"] = 2 * right / (rejected + absent)
    positive = [prediction.presence for prediction, truth in pairs if len(truth.windows)]
    negative = [prediction.presence for prediction, truth in pairs if not len(truth.windows)]
    metrics["AUROC"] = pairwise_auroc(positive, negative)
    metrics["AP"] = stepwise_average_precision(positive, negative)
    return metrics


def normalized_gain(answers: list[tuple[str, list[float]]], truth: CorpusTruth, threshold: float, top: int) -> float:
    """NDCG of one query: the best gain of any order of the true moments divides the gain found."""
    free = [
        (grade, video, window)
        for grade, video, window in zip(truth.grades.tolist(), truth.videos, truth.windows.tolist(), strict=True)
    ]
    ideal = sum(
        (2**grade - 1) / math.log2(rank + 1)
        for rank, grade in enumerate(sorted((g for g, _, _ in free), reverse=True)[:top], 1)
    )
    total = 0.0
    for rank, (video, answer) in enumerate(answers[:top], 1):
        overlapping = [(iou(answer, each[2]), each[0], each) for each in free if each[1] == video]
        if overlapping:
            overlap, grade, each = max(overlapping, key=lambda entry: entry[:2])
            if overlap >= threshold:
                total += (2**grade - 1) / math.log2(rank + 1)
                free.remove(each)
    return total / ideal


def corpus_metrics(predictions: list[CorpusPrediction], ground_truth: list[CorpusTruth]) -> dict[str, float]:
    """Every metric across videos as a fraction, over the queries that have a true moment."""
    metrics: dict[str, list[float]] = {}
    for prediction, truth in zip(predictions, ground_truth, strict=True):
        if len(truth.windows) == 0:
            continue
        answers = [
            (video, window)
            for video, window in zip(prediction.videos, prediction.windows.tolist(), strict=True)
            if video not in truth.ignored
        ]
        moments = list(zip(truth.videos, truth.windows.tolist(), strict=True))
        for top in (1, 5, 10, 100):
            for threshold in (0.5, 0.7):
                hit = any(
                    video == place and iou(answer, moment) >= threshold
                    for video, answer in answers[:top]
                    for place, moment in moments
                )
                metrics.setdefault(f"VCMR-R{top}@{threshold}", []).append(hit)
            seen: list[str] = []
            for video, _ in answers:
                if video not in seen:
                    seen.append(video)
            metrics.setdefault(f"VR-R{top}", []).append(any(video in truth.videos for video in seen[:top]))
        for top in (10, 20, 40):
            for threshold in (0.3, 0.5, 0.7):
                gain = normalized_gain(answers, truth, threshold, top)
                metrics.setdefault(f"NDCG{top}@{threshold}", []).append(gain)
    return {name: mean(values) for name, values in metrics.items()}
