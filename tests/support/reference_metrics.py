"""The metrics once more, one query, moment and clip at a time, as a reader of the definitions would write them."""

from statistics import mean, median

from r2tuning.metrics import GroundTruth, Prediction

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
