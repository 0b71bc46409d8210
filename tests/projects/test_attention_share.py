"""Attention that is planted is found again, and boxes are where the picture has the actor."""

import math

import numpy as np
import pytest
import torch

from projects.moving_shapes.attention_share import cover_patches, find_boxes, measure, names_one_actor, share_inside
from r2tuning.errors import DataError
from r2tuning.synthetic.queries import choose_queries, describe
from r2tuning.synthetic.render import render
from r2tuning.synthetic.scenes import HEIGHT, WIDTH, Act, Action, Actor, Color, Place, Scene, Script, Shape, Size
from r2tuning.synthetic.semantics import Clause, Look, Meaning
from r2tuning.synthetic.staging import make_video


def test_even_attention_is_chance_and_planted_attention_is_all() -> None:
    covered = np.array([cover_patches((0.2, 0.1, 0.7, 0.5), 8), cover_patches((0.5, 0.5, 1.5, 1.5), 8)])
    np.testing.assert_allclose(covered.mean(axis=1), [0.5 * 0.4, 0.25])
    even = np.full((2, 2, 3, 65), 1 / 65)
    np.testing.assert_allclose(share_inside(even, covered), covered.mean())
    planted = np.zeros((1, 2, 3, 65))
    planted[..., 0] = 0.9  # the frame as a whole has no place
    planted[0, 0, :, 1 + 2 * 8 + 3] = planted[0, 1, :, 1 + 7 * 8 + 7] = 0.1
    np.testing.assert_allclose(share_inside(planted, covered), 1)
    planted[0, 1] = np.roll(planted[0, 1], -63, axis=-1)  # of the second frame, to the first patch, outside
    np.testing.assert_allclose(share_inside(planted, covered), 0.5, atol=0.5)
    assert share_inside(planted, covered)[0] < 1


def test_boxes_hold_the_actor_in_the_picture() -> None:
    act = Act(Action.MOVE_RIGHT, 0.0, 6.0, origin=(0.2, 0.5), target=(0.8, 0.5), radii=(Size.LARGE.value,) * 2)
    scene = Scene(Place.GRASS, 0, 0.0, 6.0, (Actor(Shape.CIRCLE, Color.RED, (act,)),))
    script = Script("val-0000000", "val", 0, (scene,))
    boxes = find_boxes(script, Clause(Look(Color.RED)))
    assert list(boxes) == [0, 1, 2]
    for index, box in boxes.items():
        picture = render(script, 2 * index + 0.9).astype(int)
        red = (picture[..., 0] > 180) & (picture[..., 1] < 90)
        rows, columns = np.nonzero(red)
        seen = (columns - (WIDTH - HEIGHT) / 2) / HEIGHT, rows / HEIGHT
        expected = seen[0].min(), seen[1].min(), seen[0].max(), seen[1].max()
        np.testing.assert_allclose(box, expected, atol=0.045)  # outlines are dark, and circles a little smaller
    assert find_boxes(script, Clause(Look(Color.BLUE))) == {}
    twins = Script("val-0000000", "val", 0, (Scene(Place.GRASS, 0, 0.0, 6.0, scene.actors * 2),))
    assert find_boxes(twins, Clause(Look(Color.RED))) == {}


def test_only_queries_about_one_actor_are_clear() -> None:
    red = Clause(Look(Color.RED), Action.FALL)
    assert names_one_actor(Meaning(clauses=(red,)))
    assert not names_one_actor(Meaning(Place.SEA, (red,)))
    assert not names_one_actor(Meaning(clauses=(red, red)))
    assert not names_one_actor(Meaning(clauses=(Clause(Look(size=Size.TINY)),)))
    assert not names_one_actor(Meaning(clauses=(Clause(Look(Color.RED), neighbor=Look(Color.BLUE)),)))


class PlantedStore:
    """Features in which the patches that a box covers most differ from all others."""

    def __init__(self, boxes: dict[str, tuple[int, dict[int, tuple[float, ...]]]]) -> None:
        self._boxes = boxes

    def video(self, vid: str) -> torch.Tensor:
        frames, boxes = self._boxes[vid]
        values = torch.zeros(frames, 2, 65, 4)
        values[..., 1] = 1.0
        for frame, box in boxes.items():
            covered = cover_patches(box, 8)
            inside = torch.from_numpy(covered == covered.max())
            values[frame, :, 1:][:, inside] = torch.tensor([5.0, 0.0, 0.0, 0.0])
        return values.half()

    def query(self, qid: str) -> torch.Tensor:
        del qid
        return torch.ones(5, 2, 4)


def test_a_model_that_looks_at_the_actor_is_told_from_one_that_looks_away() -> None:
    from r2tuning.model import R2Config, R2Tuning

    script, query = next(
        (script, query)
        for script in (make_video(seed, "val") for seed in range(20))
        for query in choose_queries(script)
        if names_one_actor(query.meaning) and find_boxes(script, query.meaning.clauses[0])
    )
    known = {annotation.query: annotation for annotation in describe(script)}
    boxes = find_boxes(script, query.meaning.clauses[0])
    store = PlantedStore({script.vid: (math.ceil(script.duration / 2), boxes)})
    model = R2Tuning(R2Config(video_width=4, query_width=4, layers=2, hidden=8, heads=1)).eval()
    found = []
    for sign in (1, -1):
        pooling = model.block.spatial_pooling
        with torch.no_grad():
            # The direction from what is elsewhere to what is in the boxes, as the model projects both.
            mask = torch.ones(1, 1, dtype=torch.bool)
            pair = torch.zeros(1, 2, 1, 2, 4)
            pair[..., 0, 0], pair[..., 1, 1] = 5.0, 1.0
            inside, outside = model.block.project_video(pair, mask)[0, :, 0].unbind(1)
            pooling.query_projection.weight.zero_()
            pooling.query_projection.bias.copy_(sign * 100 * (inside - outside).sum(dim=0))
            pooling.video_projection.weight.copy_(torch.eye(8))
            pooling.video_projection.bias.zero_()
        (share, _) = measure(model, [known[query.text]], [query.meaning], store)  # type: ignore[arg-type]
        found.append(share)
    toward, away = found
    assert toward.inside == pytest.approx(np.mean([cover_patches(box, 8).max() for box in boxes.values()]), abs=0.02)
    assert toward.above == 1
    assert away.inside < away.chance
    assert toward.chance == away.chance
    with pytest.raises(DataError, match="no query"):
        measure(model, [], [], store)  # type: ignore[arg-type]
