"""Training data: what an example holds, how batches are made of them, and that workers change nothing."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.small_benchmarks import draw_query, draw_video, save_charades, save_features

from r2tuning.datasets import Annotation, find_benchmark, load_annotations
from r2tuning.errors import DataError, FeatureError
from r2tuning.features.store import FeatureStore
from r2tuning.training.data import Batch, TrainingData, collate, load_batches, share_batch
from r2tuning.training.targets import NO_POSITIVE

CHARADES, TVSUM, QVHIGHLIGHTS = (find_benchmark(name) for name in ("charades-sta", "tvsum", "qvhighlights"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_charades(tmp_path_factory.mktemp("charades"))


@pytest.fixture(scope="module")
def annotations(folder: Path) -> list[Annotation]:
    return load_annotations(folder / "charades_train.jsonl", CHARADES)


@pytest.fixture(scope="module")
def data(folder: Path, annotations: list[Annotation]) -> TrainingData:
    return TrainingData(annotations, CHARADES, FeatureStore.open(folder), layers=2, seed=5)


def assert_equal(one: Batch, other: Batch) -> None:
    for name in ("video", "query", "video_mask", "query_mask", "video_index"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name in ("moments", "fps", "saliency", "positive", "positive_mask"):
        assert torch.equal(getattr(one.targets, name), getattr(other.targets, name)), name


def test_an_example_is_the_stored_features_and_the_truth(data: TrainingData) -> None:
    (example,) = data[0, (4,)]
    assert example.video.dtype == torch.float16
    np.testing.assert_array_equal(example.video.numpy(), draw_video("V1", 26))
    np.testing.assert_array_equal(example.query.numpy(), draw_query("4").astype(np.float32))
    assert example.fps == 1
    assert example.moments.tolist() == [[6.0, 13.5]]
    inside = [6 <= t < 13.5 for t in range(26)]
    assert example.saliency.tolist() == [float(frame) for frame in inside]
    assert example.positive_mask.tolist() == inside
    assert inside[example.positive]


def test_fewer_layers_are_the_last_ones(data: TrainingData) -> None:
    one = TrainingData(data.annotations, CHARADES, data.store, layers=1, seed=5)
    (all_layers,), (last,) = data[0, (4,)], one[0, (4,)]
    assert torch.equal(last.video, all_layers.video[:, 1:])
    assert torch.equal(last.query, all_layers.query[:, 1:])


def test_positives_differ_by_epoch_and_not_by_when_they_are_drawn(data: TrainingData) -> None:
    drawn = [[data[epoch, (index,)][0].positive for index in range(12)] for epoch in range(8)]
    assert len({tuple(positives) for positives in drawn}) == 8
    again = [[data[epoch, (index,)][0].positive for index in reversed(range(12))] for epoch in reversed(range(8))]
    assert [epoch[::-1] for epoch in again[::-1]] == drawn
    other = TrainingData(data.annotations, CHARADES, data.store, layers=2, seed=6)
    assert [other[0, (index,)][0].positive for index in range(12)] != drawn[0]


def test_video_and_labels_are_cut_to_the_shorter(tmp_path: Path) -> None:
    ratings = np.random.default_rng(0).integers(1, 6, (30, 20)).astype(float)
    save_features(tmp_path, {"a": 33, "b": 27}, ["a", "b"])
    videos = [Annotation(vid, vid, "a crash", 60, saliency=ratings, domain="VT") for vid in ("a", "b")]
    data = TrainingData(videos, TVSUM, FeatureStore.open(tmp_path), layers=2, seed=0)
    for index, frames in ((0, 30), (1, 27)):
        (example,) = data[0, (index,)]
        assert len(example.video) == len(example.saliency) == len(example.positive_mask) == frames
        expected = (ratings[:frames].sum(axis=1) - 20) / 80
        np.testing.assert_allclose(example.saliency, expected, rtol=0, atol=1e-6)
        assert example.positive_mask.tolist() == (expected > np.median(expected)).tolist()
        assert example.moments.shape == (0, 2)
    flat = replace(videos[0], saliency=np.full((30, 20), 3.0))
    assert TrainingData([flat], TVSUM, data.store, layers=2, seed=0)[0, (0,)][0].positive == NO_POSITIVE


def test_withheld_annotations_are_refused(data: TrainingData) -> None:
    withheld = replace(data.annotations[0], moments=())
    with pytest.raises(DataError, match=r"^query 0 has no labels to train on; use another split"):
        TrainingData([withheld], CHARADES, data.store, layers=2, seed=0)


@pytest.mark.parametrize("queries_per_video", [1, 3, 4, 50])
@pytest.mark.parametrize("repeat", [1, 3])
def test_an_epoch_has_every_annotation_as_often_as_it_should(
    data: TrainingData, queries_per_video: int, repeat: int
) -> None:
    plan = data.plan_epoch(0, 5, queries_per_video, repeat)
    groups = [group for batch in plan for group in batch]
    assert sorted(index for group in groups for index in group) == sorted(list(range(12)) * repeat)
    for batch in plan:
        assert 0 < sum(map(len, batch)) <= 5
    for group in groups:
        assert len(group) <= queries_per_video
        assert len({data.annotations[index].vid for index in group}) == 1


def test_epochs_differ_in_order_and_an_epoch_is_always_the_same(data: TrainingData) -> None:
    plans = [data.plan_epoch(epoch, 4, 1, 1) for epoch in range(4)]
    assert all(plans[i] != plans[j] for i in range(4) for j in range(i))
    random.seed(1)
    assert [data.plan_epoch(epoch, 4, 1, 1) for epoch in reversed(range(4))] == plans[::-1]
    companions = [data.plan_epoch(epoch, 4, 2, 1) for epoch in range(4)]
    assert len({frozenset(frozenset(g) for batch in plan for g in batch) for plan in companions}) > 1


def test_queries_that_see_other_frames_do_not_share_a_video(tmp_path: Path) -> None:
    save_features(tmp_path, {"a": 16}, ["1", "2", "3"])
    rows = {1: 15, 2: 14, 3: 15}
    annotations = [Annotation(q, "a", "a dog", 30, ((2, 8),), np.ones((n, 3))) for q, n in rows.items()]
    data = TrainingData(annotations, QVHIGHLIGHTS, FeatureStore.open(tmp_path), layers=2, seed=0)
    (plan,) = data.plan_epoch(0, 8, 4, 1)
    assert sorted(map(sorted, plan)) == [[0, 2], [1]]
    batch = collate([data[0, group] for group in plan])
    lengths = {(0, 2): 15, (1,): 14}
    assert batch.video_mask.sum(dim=1).tolist() == [lengths[tuple(sorted(group))] for group in plan]


def test_a_batch_is_padded_and_masked(data: TrainingData) -> None:
    examples = [data[0, group] for group in ((0, 3), (1,), (5,))]
    batch = collate(examples)
    flat = [example for group in examples for example in group]
    assert batch.video.shape == (3, 2, 32, 3, 6)
    assert batch.video_mask.sum(dim=1).tolist() == [20, 26, 32]
    assert batch.video_index.tolist() == [0, 0, 1, 2]
    for row, example in enumerate(flat):
        frames, tokens = len(example.video), len(example.query)
        video = batch.video[batch.video_index[row]]
        assert torch.equal(video[:, :frames].transpose(0, 1), example.video)
        assert not video[:, frames:].any()
        assert batch.query_mask[row].tolist() == [place < tokens for place in range(batch.query.shape[2])]
        assert torch.equal(batch.query[row, :, :tokens].transpose(0, 1), example.query)
        assert torch.equal(batch.targets.saliency[row, :frames], example.saliency)
        assert torch.equal(batch.targets.moments[row], example.moments)
        assert not batch.targets.positive_mask[row, frames:].any()
    assert batch.targets.positive.tolist() == [example.positive for example in flat]


def test_padding_for_other_processes_repeats_the_last_query(data: TrainingData) -> None:
    batch = collate([data[0, (0,)], data[0, (1,)]])
    assert_equal(batch.pad_to(2, 26, 1), batch)
    padded = batch.pad_to(4, 40, 3)
    assert padded.video.shape == (2, 2, 40, 3, 6)
    assert padded.video_index.tolist() == [0, 1, 1, 1]
    assert torch.equal(padded.query[2:], batch.query[1:].expand(2, -1, -1, -1))
    assert padded.video_mask.sum(dim=1).tolist() == [20, 26]
    assert padded.targets.moments[:2, :1].tolist() == batch.targets.moments.tolist()
    assert padded.targets.moments[:, 1:].isinf().all()
    assert not padded.targets.positive_mask[:, 26:].any()


@pytest.mark.parametrize(("queries", "world"), [(8, 2), (7, 2), (1, 2), (5, 3), (2, 4)])
def test_shares_are_the_batch_and_about_equal(queries: int, world: int) -> None:
    batch = [(index,) for index in range(queries)]
    shares = [share_batch(batch, rank, world) for rank in range(world)]
    assert [group for share in shares for group in share] == batch
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_workers_hand_out_the_same_batches(data: TrainingData) -> None:
    plan = data.plan_epoch(2, 5, 2, 1)
    here, there = (list(load_batches(data, plan, 2, workers, pin=False)) for workers in (0, 2))
    assert len(here) == len(there) == len(plan) >= 3
    for one, other in zip(here, there, strict=True):
        assert_equal(one, other)
    assert list(load_batches(data, [], 2, 1, pin=False)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_a_file_is_one_line_from_workers_too(tmp_path: Path, workers: int) -> None:
    save_features(tmp_path, {"a": 30, "b": 30}, ["a", "b"])
    (tmp_path / "clip_b32_vid_k2" / "b.npy").write_bytes(b"\x93NUMPY no array")
    ratings = np.full((30, 20), 3.0)
    videos = [Annotation(vid, vid, "a crash", 60, saliency=ratings, domain="VT") for vid in ("a", "b")]
    data = TrainingData(videos, TVSUM, FeatureStore.open(tmp_path), layers=2, seed=0)
    with pytest.raises(FeatureError, match=r"b\.npy: ") as caught:
        list(load_batches(data, [[(0,)], [(1,)]], 0, workers, pin=False))
    assert "\n" not in str(caught.value)
    longer = TrainingData([replace(videos[0], saliency=np.full((60, 20), 3.0))], TVSUM, data.store, layers=2, seed=0)
    with pytest.raises(DataError, match=r"^a: 30 frames for 60 rows of labels") as caught_too:
        list(load_batches(longer, [[(0,)]], 0, workers, pin=False))
    assert "\n" not in str(caught_too.value)


def test_queries_of_other_videos_join_as_ones_that_the_video_lacks(folder: Path, annotations: list[Annotation]) -> None:
    store = FeatureStore.open(folder)
    data = TrainingData(annotations, CHARADES, store, layers=2, seed=5, negatives=1.5)
    counts = []
    for epoch in range(4):
        for index, annotation in enumerate(annotations):
            own, *others = data[epoch, (index,)]
            assert own.present
            counts.append(len(others))
            for other in others:
                (asked,) = (a for a in annotations if torch.equal(other.query, data._example(int(a.qid), 0).query))
                assert asked.vid != annotation.vid
                assert asked.query.casefold() not in {
                    a.query.casefold() for a in annotations if a.vid == annotation.vid
                }
                assert other.video is own.video
                assert (other.present, other.positive, len(other.moments)) == (False, NO_POSITIVE, 0)
                assert not other.saliency.any()
                assert not other.positive_mask.any()
                assert len(other.saliency) == len(own.saliency)
    assert set(counts) == {1, 2}
    assert data[0, (0,)][1].query.equal(data[0, (0,)][1].query)
    batch = collate([data[0, (0, 1)], data[0, (2,)]])
    assert batch.targets.present.sum() == 3
    assert len(batch.query) == len(batch.targets.present) > 3
    assert batch.video_index.tolist() == sorted(batch.video_index.tolist())
    assert collate([TrainingData(annotations, CHARADES, store, layers=2, seed=5)[0, (0,)]]).targets.present.all()


def test_a_query_without_an_answer_is_background_everywhere(data: TrainingData) -> None:
    absent = replace(data.annotations[4], moments=(), absent=True)
    (example,) = TrainingData([absent], CHARADES, data.store, layers=2, seed=5)[0, (0,)]
    assert (example.present, example.positive, example.moments.shape) == (False, NO_POSITIVE, (0, 2))
    assert len(example.saliency) == len(example.video)
    assert not example.saliency.any()
