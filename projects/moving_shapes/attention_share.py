"""Do words look at what they name? ``python -m projects.moving_shapes.attention_share``.

Of queries about a single actor, the share of the attention to patches that falls within the actor's box, against what
an even attention would give: the share of the picture that the box takes. Boxes are known from the videos' scripts.
Frames count in which the query is true of one actor only.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from projects.moving_shapes.frames import sampled_times
from projects.moving_shapes.kinds import recall_meanings
from r2tuning.checkpoints import read_checkpoint
from r2tuning.datasets import Annotation, find_benchmark, load_annotations
from r2tuning.errors import DataError
from r2tuning.features.store import FeatureStore
from r2tuning.files import write_atomically
from r2tuning.model import R2Tuning
from r2tuning.model.attention import pool_attention
from r2tuning.synthetic.actions import track_script
from r2tuning.synthetic.scenes import FPS, SPLITS, Script
from r2tuning.synthetic.semantics import Clause, Look, Meaning, find_matches
from r2tuning.synthetic.staging import make_video

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in heights of the square that the model sees."""


@dataclass(frozen=True)
class Share:
    """What was found in one layer.

    Attributes:
        layer: Counted from the last of CLIP, which is 1; 0 for the mean of all.
        inside: Mean over queries of the share of attention within the box, of all words; in [0, 1].
        inside_end: Likewise, of the end token alone.
        chance: Mean over queries of the share of the picture that the box takes.
        error: Standard error of the mean of ``inside - chance``.
        above: Share of the queries whose ``inside`` is above their ``chance``.
    """

    layer: int
    inside: float
    inside_end: float
    chance: float
    error: float
    above: float


def names_one_actor(meaning: Meaning) -> bool:
    """Whether a query is about one actor whose color or shape it names, and about nothing else."""
    if meaning.place is not None or len(meaning.clauses) != 1:
        return False
    (clause,) = meaning.clauses
    named = clause.subject != Look(size=clause.subject.size)
    return named and clause.center is None and clause.neighbor is None


def find_boxes(script: Script, clause: Clause) -> dict[int, Box]:
    """Boxes of the one actor of whom a clause is true.

    Args:
        script: The video.
        clause: With neither center nor neighbor.

    Returns:
        By index of the sampled frame; frames where it is true of none or of several, where it could be argued about, or
        where the actor is dark, are left out.
    """
    boxes = {}
    scenes = track_script(script)
    for index, time in enumerate(sampled_times(script)):
        frame = round(time * FPS)
        scene = next(scene for scene in scenes if scene.span.start <= frame < scene.span.stop)
        at = frame - scene.span.start
        matches = [match for match in find_matches(clause, scene) if match.truth.possible[at]]
        if len(matches) != 1 or not matches[0].truth.certain[at]:
            continue
        pose = matches[0].tracks[0].pose
        if pose.lit[at]:
            x, y, radius = float(pose.x[at]), float(pose.y[at]), float(pose.radius[at])
            boxes[index] = (x - radius, y - radius, x + radius, y + radius)
    return boxes


def cover_patches(box: Box, side: int) -> Floats:
    """The share of each patch that lies in a box.

    Args:
        box: What reaches beyond the square is not seen.
        side: Patches in a row.

    Returns:
        ``[side²]``, row by row.

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
    """The share of the attention to patches that lies in boxes, over frames and tokens together.

    Args:
        weights: ``[K, n, L, P+1]``, [CLS] first.
        covered: ``[n, P]``, from `cover_patches`.

    Returns:
        ``[K]``, in [0, 1].
    """
    patches = weights[..., 1:].sum(axis=2)
    found: Floats = (patches * covered).sum(axis=(1, 2)) / patches.sum(axis=(1, 2))
    return found


def measure(
    model: R2Tuning, annotations: Sequence[Annotation], meanings: Sequence[Meaning], store: FeatureStore
) -> list[Share]:
    """Measures each layer over queries that `names_one_actor` of, in the order of the model's steps.

    Raises:
        DataError: If no frame can be used.
    """
    inside, inside_end, chance = [], [], []
    for annotation, meaning in zip(annotations, meanings, strict=True):
        split, _, seed = annotation.vid.partition("-")
        script = make_video(int(seed), next(name for name in SPLITS if name == split))
        boxes = find_boxes(script, meaning.clauses[0])
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
        raise DataError("no query is true of a single actor in any sampled frame; give more queries")
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
    parser = argparse.ArgumentParser(description="Share of attention within the box of the actor that a query names.")
    parser.add_argument("folder", type=Path, help="of SPLIT.jsonl and features/, as synthesize and extract make them")
    parser.add_argument("checkpoint", help="name or folder")
    parser.add_argument("--split", choices=SPLITS, default="val")
    parser.add_argument("--queries", type=int, default=100, help="most queries to look at")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)
    annotations = load_annotations(options.folder / f"{options.split}.jsonl", find_benchmark("moving-shapes"))
    pairs = zip(annotations, recall_meanings(annotations), strict=True)
    clear = [(annotation, meaning) for annotation, meaning in pairs if names_one_actor(meaning)][: options.queries]
    _, model = read_checkpoint(options.checkpoint)
    chosen, meanings = [annotation for annotation, _ in clear], [meaning for _, meaning in clear]
    shares = measure(model.eval(), chosen, meanings, FeatureStore.open(options.folder / "features"))
    if options.json is not None:
        content = {"split": options.split, "queries": len(clear), "layers": [asdict(share) for share in shares]}
        write_atomically(options.json, json.dumps(content, indent=2) + "\n", force=True)
    print(f"{len(clear)} queries\n| layer from the last | inside, % | [end], % | chance, % | above chance, % |")
    print("|---:|---:|---:|---:|---:|")
    for each in shares:
        numbers = 100 * each.inside, 100 * each.error, 100 * each.inside_end, 100 * each.chance, 100 * each.above
        print("| {} | {:.1f} ± {:.1f} | {:.1f} | {:.1f} | {:.0f} |".format(each.layer, *numbers))


if __name__ == "__main__":
    main()
