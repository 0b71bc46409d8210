"""Captions are as true as the world's own definition of truth says."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from projects.moving_shapes.captions import FALSE, OPEN, TRUE, _change_word, _describe, _judge, caption_frames
from projects.moving_shapes.frames import Frames, draw_frames, sampled_times
from r2tuning.synthetic import make_video
from r2tuning.synthetic.actions import track_script
from r2tuning.synthetic.scenes import FPS, Action
from r2tuning.synthetic.semantics import find_truth

VIDEOS = 3


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return draw_frames(tmp_path_factory.mktemp("frames"), "train", VIDEOS, 32, 1, lambda _done, _of: None)


def test_truth_is_that_of_the_world(frames: Frames) -> None:
    chance, compared = Random(0), {TRUE: 0, FALSE: 0}
    worlds = [(track_script(make_video(seed, "train")), sampled_times(make_video(seed, "train"))) for seed in range(3)]
    for _ in range(150):
        row = chance.randrange(len(frames.places))
        meaning = _describe(chance, int(frames.places[row]), frames.attributes[row], frames.geometry[row])
        if meaning is None or len(meaning.clauses) > 1 or any(c.action is Action.CIRCLE for c in meaning.clauses):
            continue  # of two clauses the world wants two actors; whom somebody circles is told by distance here
        if chance.random() < 0.5:
            meaning = _change_word(chance, meaning)
        guessed = _judge(meaning, frames.places, frames.attributes, frames.geometry)
        for video, (scenes, times) in enumerate(worlds):
            truth = find_truth(meaning, scenes)
            numbers = [round(time * FPS) for time in times]
            ours = guessed[frames.starts[video] : frames.starts[video + 1]]
            clear = (truth.certain == truth.possible)[numbers] & (ours != OPEN) & _lit(scenes, numbers)
            np.testing.assert_array_equal(ours[clear] == TRUE, truth.certain[numbers][clear], err_msg=str(meaning))
            for value in compared:
                compared[value] += int((ours[clear] == value).sum())
    assert compared[TRUE] > 100
    assert compared[FALSE] > 1000


def _lit(scenes, numbers):
    """Frames in which nobody is in the dark half of a blink: the world counts them as there, a picture cannot."""
    dark = np.zeros(scenes[-1].span.stop, dtype=bool)
    for scene in scenes:
        for track in scene.tracks:
            dark[scene.span] |= ~track.pose.lit
    return ~dark[numbers]


def test_a_batch_has_true_and_false_captions_of_every_kind(frames: Frames) -> None:
    batch = caption_frames(Random(1), frames, range(20), captions=40, looks=30, grid=4)
    again = caption_frames(Random(1), frames, range(20), captions=40, looks=30, grid=4)
    assert batch.captions == again.captions
    assert batch.caption_truth.shape == (20, 40)
    assert batch.look_truth.shape == (20, 16, 30)
    assert len(batch.captions) == 40
    assert len(batch.looks) == 30
    for truth in (batch.caption_truth, batch.look_truth):
        assert {int(value) for value in np.unique(truth)} >= {TRUE, FALSE}
    # Each caption that was taken from a frame is true of it; where two pass each other, that they are beside is open.
    assert (batch.caption_truth[:, ::2] != FALSE).any(axis=0).all()
    assert (batch.caption_truth[:, ::2] == TRUE).any(axis=0).mean() > 0.5


def test_a_changed_word_changes_the_meaning(frames: Frames) -> None:
    chance = Random(2)
    for row in range(len(frames.places)):
        meaning = _describe(chance, int(frames.places[row]), frames.attributes[row], frames.geometry[row])
        if meaning is not None:
            changed = _change_word(chance, meaning)
            assert changed != meaning
            assert replace(changed, place=meaning.place) != meaning or changed.place is not meaning.place


def test_a_patch_is_owned_by_the_only_actor_on_it(frames: Frames) -> None:
    grid = 8
    batch = caption_frames(Random(3), frames, range(len(frames.places)), captions=2, looks=2, grid=grid)
    found = 0
    for row, owners in enumerate(batch.owners):
        geometry = frames.geometry[row]
        for patch in np.flatnonzero(owners >= 0):
            x, y, radius = geometry[owners[patch], :3]
            # The nearest and farthest points of the patch from the center of its owner.
            left, top = patch % grid / grid, patch // grid / grid
            apart = np.hypot(x - np.clip(x, left, left + 1 / grid), y - np.clip(y, top, top + 1 / grid))
            assert radius > apart
            assert batch.touched[row, patch]
            for other, (x, y, radius) in enumerate(geometry[:, :3]):
                middle = np.hypot(x - left - 0.5 / grid, y - top - 0.5 / grid)
                assert other == owners[patch] or radius == 0 or middle > radius
            found += 1
    assert found > 3 * len(frames.places)
    assert not batch.touched.all()


def test_looks_stand_alone_or_end_a_sentence(frames: Frames) -> None:
    batch = caption_frames(Random(4), frames, range(20), captions=2, looks=60, grid=4)
    assert 10 < batch.alone.sum() < 50
    lengths = np.array([len(look.split()) for look in batch.looks])
    assert lengths[batch.alone].max() <= 6 < lengths[~batch.alone].min() + 2
