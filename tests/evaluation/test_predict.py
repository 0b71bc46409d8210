"""Predictions from stored features: the answers that users get, whatever the order, cut as in training."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.groundings import make_facts
from support.models import save_tiny_clip
from support.small_benchmarks import charades_lines, draw_query, draw_video, make_model, save_charades, save_features

from r2tuning.backbones import load_backbone
from r2tuning.datasets import Annotation, find_benchmark, load_annotations
from r2tuning.decoding.decode import DecodingConfig
from r2tuning.errors import DataError, FeatureError, RecipeError
from r2tuning.evaluation.predict import evaluate_model, predict, see_whole
from r2tuning.evaluation.score import score_predictions
from r2tuning.evaluation.splits import DataConfig, OpenSplit, read_annotations
from r2tuning.features import EncodedVideo
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder
from r2tuning.metrics import Prediction
from r2tuning.types import QueryFeatures

CHARADES, TVSUM = find_benchmark("charades-sta"), find_benchmark("tvsum")
YOUTUBE, QVHIGHLIGHTS = find_benchmark("youtube-highlights"), find_benchmark("qvhighlights")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_charades(tmp_path_factory.mktemp("charades"))


@pytest.fixture(scope="module")
def store(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder)


@pytest.fixture(scope="module")
def annotations(folder: Path) -> list[Annotation]:
    return load_annotations(folder / "charades_test.jsonl", CHARADES)


def make_grounder(**settings: object) -> Grounder:
    config, model = make_model(**settings)
    return Grounder(model, config, None)


def encode(name: str, frames: int, fps: float, duration: float) -> EncodedVideo:
    """A video as a user would have encoded it."""
    facts = make_facts(video=name, duration=duration, fps=fps, backbone="")
    return EncodedVideo(facts, torch.from_numpy(draw_video(name, frames)))


def assert_same(one: Prediction, other: Prediction) -> None:
    """Up to the rounding of floats that batches of other sizes bring."""
    assert one.qid == other.qid
    np.testing.assert_allclose(one.windows, other.windows, rtol=0, atol=1e-4)
    assert one.saliency is not None
    assert other.saliency is not None
    np.testing.assert_allclose(one.saliency, other.saliency, rtol=0, atol=1e-5)


def test_predictions_are_the_answers_users_get(store: FeatureStore, annotations: list[Annotation]) -> None:
    grounder = make_grounder()
    told: list[tuple[int, int]] = []
    found = predict(grounder, annotations, CHARADES, store, lambda done, total: told.append((done, total)))
    assert told == [(4, 12), (8, 12), (12, 12)]
    for prediction, line in zip(found, charades_lines(), strict=True):
        video = encode(line["vid"], int(line["duration"]), 1, line["duration"])
        values = torch.from_numpy(draw_query(str(line["qid"]))).transpose(0, 1).float()
        (answer,) = grounder.answer(video, [QueryFeatures(line["query"], values)], top_k=50, threshold=0)
        windows = [[m.start, m.end, m.score] for m in answer.moments]
        assert_same(prediction, Prediction(line["qid"], windows, answer.saliency.scores))
        assert len(prediction.windows) > 10
        assert (prediction.windows[:, 2] == 0).any(), "suppressed moments count"


def test_order_and_number_of_queries_do_not_matter(store: FeatureStore, annotations: list[Annotation]) -> None:
    grounder = make_grounder()
    found = {p.qid: p for p in predict(grounder, annotations, CHARADES, store)}
    shuffled = random.Random(1).sample(annotations, len(annotations))
    again = predict(grounder, shuffled, CHARADES, store)
    assert [p.qid for p in again] == [a.qid for a in shuffled]
    for prediction in again:
        assert_same(prediction, found[prediction.qid])
    (alone,) = predict(grounder, annotations[5:6], CHARADES, store)
    assert_same(alone, found[5])


def test_rounded_seconds_are_those_of_the_annotations(store: FeatureStore, annotations: list[Annotation]) -> None:
    grounder = make_grounder(decoding=DecodingConfig(unit=0.1, nms="linear"))
    seconds = np.concatenate([p.windows[:, :2].ravel() for p in predict(grounder, annotations, CHARADES, store)])
    inside = seconds[np.isclose(seconds * 10, np.round(seconds * 10), rtol=0, atol=1e-4)]
    assert len(inside) > 100
    assert all(value == float(f"{value:.1f}") for value in inside)


def test_windows_are_those_of_the_configuration(store: FeatureStore, annotations: list[Annotation]) -> None:
    config, model = make_model(window=8)
    windowed = predict(Grounder(model, config, None), annotations[:1], CHARADES, store)
    whole = predict(Grounder(model, see_whole(config), None), annotations[:1], CHARADES, store)
    longer = predict(make_grounder(window=500), annotations[:1], CHARADES, store)
    assert_same(whole[0], longer[0])
    assert windowed[0].saliency is not None
    assert np.abs(windowed[0].saliency - whole[0].saliency).max() > 1e-3


@pytest.mark.parametrize("extra", [-4, -1, 0, 4])
def test_tvsum_is_cut_to_its_label_rows(tmp_path: Path, extra: int) -> None:
    ratings = np.random.default_rng(0).integers(1, 6, (30, 20)).astype(float)
    annotation = Annotation("sTEELN-vY30", "sTEELN-vY30", "a crash", 60, saliency=ratings, domain="VT")
    save_features(tmp_path, {annotation.vid: 30 + extra}, [annotation.vid])
    config, model = make_model("saliency")
    (found,) = predict(Grounder(model, config, None), [annotation], TVSUM, FeatureStore.open(tmp_path))
    frames = min(30, 30 + extra)
    (kept,) = predict(
        Grounder(model, config, None),
        [replace(annotation, saliency=ratings[:frames])],
        TVSUM,
        FeatureStore.open(tmp_path),
    )
    assert found.saliency is not None
    assert len(found.saliency) == frames
    assert len(found.windows) == 0
    assert_same(found, kept)
    metrics = evaluate_model(model, config, OpenSplit("val", TVSUM, [annotation], FeatureStore.open(tmp_path)))
    assert set(metrics) == {"mAP"}
    assert metrics == score_predictions([found], [replace(annotation, saliency=ratings[:frames])], TVSUM)


def test_tvsum_of_another_rate_is_refused(tmp_path: Path) -> None:
    annotation = Annotation("a", "a", "a crash", 60, saliency=np.full((30, 20), 3.0), domain="VT")
    save_features(tmp_path, {"a": 35}, ["a"])
    with pytest.raises(DataError, match=r"^a: 35 frames for 30 rows of labels"):
        predict(make_grounder(family="saliency"), [annotation], TVSUM, FeatureStore.open(tmp_path))


def test_youtube_videos_have_rates_of_their_own(tmp_path: Path) -> None:
    labels = np.array([[1.0], [-1], [0], [1], [-1], [1], [0], [-1]])
    videos = [
        Annotation(vid, vid, "dog", 8 / rate, saliency=labels, domain="dog") for vid, rate in (("a", 0.3), ("b", 1))
    ]
    save_features(tmp_path, {"a": 8, "b": 8}, ["a", "b"])
    config, model = make_model("saliency")
    store = FeatureStore.open(tmp_path)
    found = predict(Grounder(model, config, None), videos, YOUTUBE, store)
    assert [len(p.saliency) for p in found if p.saliency is not None] == [8, 8]
    assert evaluate_model(model, config, OpenSplit("val", YOUTUBE, videos, store)) == score_predictions(
        found, videos, YOUTUBE
    )


def test_answers_do_not_depend_on_whether_the_truth_is_known(tmp_path: Path) -> None:
    labelled = Annotation(1, "a", "a dog", 31, ((2, 8),), np.ones((15, 3)))
    withheld = Annotation(1, "a", "a dog", 31)
    save_features(tmp_path, {"a": 16}, ["1"])
    store, grounder = FeatureStore.open(tmp_path), make_grounder()
    (known,), (unknown,) = (predict(grounder, [a], QVHIGHLIGHTS, store) for a in (labelled, withheld))
    assert known.saliency is not None
    assert len(known.saliency) == 15
    assert_same(known, unknown)


def test_the_last_layers_are_read(tmp_path: Path) -> None:
    save_features(tmp_path / "more", {"V0": 20}, ["0"], layers=3)
    save_features(tmp_path / "last", {"V0": 20}, ["0"])
    for kind, name in (("vid", "V0"), ("txt", "0")):
        more = np.load(tmp_path / "more" / f"clip_b32_{kind}_k3" / f"{name}.npy")
        np.save(tmp_path / "last" / f"clip_b32_{kind}_k2" / f"{name}.npy", more[:, 1:])
    annotation = Annotation(0, "V0", "a dog", 20, ((1, 2),))
    more, last = (
        predict(make_grounder(), [annotation], CHARADES, FeatureStore.open(tmp_path / name))[0]
        for name in ("more", "last")
    )
    assert_same(more, last)


def test_a_model_in_training_is_scored_and_left_in_training(store: FeatureStore, annotations: list[Annotation]) -> None:
    config, model = make_model(window=5)
    split = OpenSplit("test", CHARADES, annotations, store)
    expected = score_predictions(
        predict(Grounder(model, see_whole(config), None), annotations, CHARADES, store), annotations, CHARADES
    )
    assert 0 < expected["MR-full-mIoU"] < 100
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert evaluate_model(model, config, split) == expected
    assert all(module.training for module in model.modules())
    with pytest.raises(FeatureError):
        evaluate_model(model, config, replace(split, annotations=[replace(annotations[0], vid="X")]))
    assert model.training
    model.eval()
    evaluate_model(model, config, split)
    assert not model.training


def test_missing_features_are_counted_and_named(store: FeatureStore, annotations: list[Annotation]) -> None:
    changed = [replace(a, vid=f"X{a.vid}") if a.vid == "V1" else a for a in annotations]
    with pytest.raises(
        FeatureError, match=r"no features of 1 of 3 videos \(XV1\); make them with r2tuning extract, or"
    ):
        predict(make_grounder(), changed, CHARADES, store)
    changed = [replace(a, qid=f"x{a.qid}") for a in annotations]
    with pytest.raises(FeatureError, match=r"no features of 12 of 12 queries \(x0, x1, x2, …\).*r2tuning download"):
        predict(make_grounder(), changed, CHARADES, store)


def test_features_of_another_rate_are_refused(tmp_path: Path) -> None:
    clip = load_backbone(str(save_tiny_clip(tmp_path / "clip")), layers=2)
    own = FeatureStore.create(tmp_path / "store", clip)
    facts = make_facts(video="V0.mp4", fps=2.0, backbone=clip.name, fingerprint=clip.fingerprint)
    values = torch.zeros(40, 2, clip.tokens_per_frame, clip.video_width, dtype=torch.float16)
    own.save_video("V0", EncodedVideo(facts, values))
    own.save_query("0", clip.encode_queries(["a dog"])[0], clip)
    annotation = Annotation(0, "V0", "a dog", 20, ((1, 2),))
    with pytest.raises(FeatureError, match=r"^V0: features have 2 frames per second, charades-sta is seen at 1; "):
        predict(make_grounder(), [annotation], CHARADES, own)


def test_custom_data_has_two_splits_that_share_no_video(tmp_path: Path) -> None:
    file = tmp_path / "moments.csv"
    file.write_text("video,start,end,query\n" + "".join(f"{n}.mp4,1,2,a dog\n" for n in range(5)))
    data = DataConfig(annotations=file)
    train, val = ({a.vid for a in read_annotations(data, split, seed=3)} for split in ("train", "val"))
    assert (len(train), len(val), len(train | val)) == (4, 1, 5)
    (tmp_path / "val.csv").write_text("video,start,end,query\n9.mp4,1,2,a dog\n")
    separate = DataConfig(annotations=file, validation=tmp_path / "val.csv")
    assert [len(read_annotations(separate, split)) for split in ("train", "val")] == [5, 1]
    with pytest.raises(RecipeError, match="custom data has no split 'test', only train and val"):
        read_annotations(data, "test")
