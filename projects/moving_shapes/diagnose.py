"""Is CLIP or the head to blame? ``python -m projects.moving_shapes.diagnose DIR CHECKPOINT``.

For each kind of query, the mean chance that a frame within its moments scores above one outside (AUROC): for CLIP's
similarity (of [CLS], of the best patch), and for the head (saliency, class logits of the finest level).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from projects.moving_shapes.kinds import find_kind, recall_meanings
from projects.moving_shapes.shared import make_parser, open_features, read_split, to_markdown, write_json
from projects.moving_shapes.zero_shot import Similarity
from r2tuning.checkpoints import read_checkpoint
from r2tuning.metrics.reliability import auroc
from r2tuning.model import R2Tuning

CURVES = ("CLIP [CLS]", "CLIP best patch", "head: saliency", "head: class")


@torch.inference_mode()
def score_frames(similarity: Similarity, model: R2Tuning, video: Tensor, query: Tensor) -> list[Tensor]:
    """Scores ``[T]`` of every frame for each of `CURVES`; ``video [T, K, P+1, Dv]``, ``query [L, K, Dq]``."""
    tokens = similarity.frames(video[:, -1]) @ similarity.sentence(query[-1, -1])
    layers = model.config.layers
    output = model(video[:, -layers:].transpose(0, 1)[None], query[:, -layers:].transpose(0, 1)[None])
    saliency = cosine_similarity(output.hidden[0], output.query, dim=-1)
    return [tokens[:, 0], tokens[:, 1:].amax(dim=1), saliency, output.class_logits[0, : len(video)]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row for all queries, and one for each kind."""
    options = make_parser("Which part finds the frames of a query.", split="val").parse_args(arguments)
    queries, store = read_split(options.folder, options.split), open_features(options.folder)
    similarity = Similarity("r2tuning/demo", store)
    _, model = read_checkpoint(options.checkpoint)
    found: dict[str, list[list[float]]] = defaultdict(list)
    for annotation, meaning in zip(queries, recall_meanings(queries), strict=True):
        video = store.video(annotation.vid).float()
        times = (np.arange(len(video)) + 0.5) * 2
        inside = np.any([(start <= times) & (times < end) for start, end in annotation.moments], axis=0)
        if inside.any() and not inside.all():
            curves = score_frames(similarity, model, video, store.query(str(annotation.qid)).float())
            scores = [auroc(curve.numpy()[inside], curve.numpy()[~inside]) for curve in curves]
            for group in ("all", find_kind(meaning).value):
                found[group].append(scores)
    means = {group: np.mean(rows, axis=0).tolist() for group, rows in found.items()}
    write_json(options.json, means)
    rows = [[group, f"{len(found[group])}", *(f"{value:.3f}" for value in mean)] for group, mean in means.items()]
    print(to_markdown(["queries", "n", *CURVES], rows))


if __name__ == "__main__":
    main()
