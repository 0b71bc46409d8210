"""Do words look at what they name? ``python -m projects.moving_shapes.attention_share DIR CHECKPOINT``.

For queries about one actor: the share of the attention to patches that lies within the actor's box, against the share
of the picture that the box takes. Boxes come from the videos' scripts; frames with several such actors are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from projects.moving_shapes.frames import find_sampled
from projects.moving_shapes.kinds import recall_meanings, recall_script
from projects.moving_shapes.shared import make_parser, open_features, read_split, to_markdown, write_json
from r2tuning.checkpoints import read_checkpoint
from r2tuning.datasets import Annotation
from r2tuning.errors import DataError
from r2tuning.features.store import FeatureStore
from r2tuning.model import R2Tuning
from r2tuning.model.attention import pool_attention
from r2tuning.synthetic.scenes import Script
from r2tuning.synthetic.semantics import Clause, Look, Meaning, find_matches

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in heights of the square that the model sees."""


@dataclass(frozen=True)
class Share:
    """Means over queries in one layer, in [0, 1].

    Attributes:
        layer: Counted from the last of CLIP, which is 1; 0 for the mean of all.
        inside: Share of the attention of all words that lies within the box.
        inside_end: The same for the end token.
        chance: Share of the picture that the box takes.
        error: Standard error of ``inside - chance``.
        above: Share of the queries with ``inside > chance``.
    """

    layer: int
    inside: float
    inside_end: float
    chance: float
    error: float
    above: float


def names_one_actor(meaning: Meaning) -> bool:
    """Whether a query is about nothing but one actor, whose color or shape it names."""
    if meaning.place is not None or len(meaning.clauses) != 1:
        return False
    (clause,) = meaning.clauses
    named = clause.subject != Look(size=clause.subject.size)
    return named and clause.center is None and clause.neighbor is None


def find_boxes(script: Script, clause: Clause) -> dict[int, Box]:
    """Boxes of the one actor of which a clause is certainly true, by index of the sampled frame."""
    boxes = {}
    for index, (scene, at) in enumerate(find_sampled(script)):
        matches = [match for match in find_matches(clause, scene) if match.truth.possible[at]]
        if len(matches) != 1 or not matches[0].truth.certain[at]:
            continue
        pose = matches[0].tracks[0].pose
        if pose.lit[at]:
            x, y, radius = float(pose.x[at]), float(pose.y[at]), float(pose.radius[at])
            boxes[index] = (x - radius, y - radius, x + radius, y + radius)
    return boxes


def cover_patches(box: Box, side: int) -> Floats:
    """The share of each patch that lies in a box, ``[side²]`` row by row.

    Example:
        >>> cover_patches((0.25, 0.5, 1.0, 2.0), 2).tolist()
        [0.0, 0.0, 0.5, 1.0]
    """
    edges = np.arange(side + 1) / side
    left, top, right, bottom = box
    across, down = (
        np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, None) * side
        for start, stop in ((left, right), (top, bottom))
    )
    return np.outer(down, across).ravel()


def share_inside(weights: Floats, covered: Floats) -> Floats:
    """The share ``[K]`` of attention ``[K, n, L, P+1]`` to patches that lies in boxes ``[n, P]``."""
    patches = weights[..., 1:].sum(axis=2)
    found: Floats = (patches * covered).sum(axis=(1, 2)) / patches.sum(axis=(1, 2))
    return found


def measure(
    model: R2Tuning, annotations: Sequence[Annotation], meanings: Sequence[Meaning], store: FeatureStore
) -> list[Share]:
    """Measures each layer over queries about one actor, in the order of the model's steps.

    Raises:
        DataError: If no frame can be used.
    """
    inside, inside_end, chance = [], [], []
    for annotation, meaning in zip(annotations, meanings, strict=True):
        boxes = find_boxes(recall_script(annotation.vid), meaning.clauses[0])
        video, query = store.video(annotation.vid), store.query(str(annotation.qid)).float()
        side = math.isqrt(video.shape[2] - 1)
        covered = np.array([cover_patches(box, side) for box in boxes.values()])
        if not covered.any():
            continue
        layers = model.config.layers
        weights = pool_attention(model, video[:, -layers:].transpose(0, 1), query[:, -layers:].transpose(0, 1))
        # The start token is the same in all queries.
        seen = weights[list(model.block.order)][:, list(boxes), 1:].double().numpy()
        inside.append(share_inside(seen, covered))
        inside_end.append(share_inside(seen[:, :, -1:], covered))
        chance.append(covered.mean())
    if not inside:
        raise DataError("no query is true of a single actor in any sampled frame; use more queries")
    gain = np.array(inside) - np.array(chance)[:, None]
    return [
        Share(
            layer=model.block.count_from_last(index),
            inside=float(np.mean(inside, axis=0)[step]),
            inside_end=float(np.mean(inside_end, axis=0)[step]),
            chance=float(np.mean(chance)),
            error=float(gain[:, step].std(ddof=1) / math.sqrt(len(gain))) if len(gain) > 1 else math.nan,
            above=float((gain[:, step] > 0).mean()),
        )
        for step, index in enumerate(model.block.order)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures a checkpoint on the features of a split."""
    parser = make_parser("Share of attention within the box of the actor that a query names.", split="val")
    parser.add_argument("--queries", type=int, default=100, help="most queries to look at")
    options = parser.parse_args(arguments)
    annotations = read_split(options.folder, options.split)
    pairs = zip(annotations, recall_meanings(annotations), strict=True)
    clear = [(annotation, meaning) for annotation, meaning in pairs if names_one_actor(meaning)][: options.queries]
    _, model = read_checkpoint(options.checkpoint)
    chosen, meanings = [annotation for annotation, _ in clear], [meaning for _, meaning in clear]
    shares = measure(model.eval(), chosen, meanings, open_features(options.folder))
    layers = [asdict(share) for share in shares]
    write_json(options.json, {"split": options.split, "queries": len(clear), "layers": layers})
    print(f"{len(clear)} queries")
    headings = ["layer from the last", "inside, %", "[end], %", "chance, %", "above chance, %"]
    rows = [
        [
            f"{each.layer}",
            f"{100 * each.inside:.1f} ± {100 * each.error:.1f}",
            *(f"{100 * value:.1f}" for value in (each.inside_end, each.chance)),
            f"{100 * each.above:.0f}",
        ]
        for each in shares
    ]
    print(to_markdown(headings, rows, texts=0))


if __name__ == "__main__":
    main()
