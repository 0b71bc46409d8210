"""The zero-shot baseline: curves are CLIP's own, moments are runs above a threshold, the rule is chosen on val."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.groundings import make_facts
from support.models import save_tiny_clip
from transformers import AutoTokenizer, CLIPModel

from projects.moving_shapes.zero_shot import (
    THRESHOLDS,
    Rule,
    Similarity,
    choose_rule,
    cut_moments,
    draw_curves,
    main,
    measure,
    smooth,
)
from r2tuning.backbones import Backbone, load_backbone
from r2tuning.datasets import Annotation
from r2tuning.errors import BackboneError, FeatureError
from r2tuning.features.encoded import EncodedVideo
from r2tuning.features.store import FeatureStore
from r2tuning.synthetic import describe, make_video
from r2tuning.synthetic.queries import to_line
from r2tuning.types import CLIP_PREPROCESSING

SIDE, PATCH = 32, 8  # pixels
curves = st.lists(st.floats(-1, 1), min_size=1, max_size=30).map(np.array)


def save_features(folder: Path, clip: Backbone, annotations: list[Annotation]) -> dict[str, torch.Tensor]:
    """Features of noise videos, and of the queries; returns the frames, uint8."""
    store, pixels = FeatureStore.create(folder, clip), {}
    for annotation in annotations:
        if annotation.vid not in pixels:
            draw = torch.Generator().manual_seed(len(pixels))
            assert annotation.clips is not None
            pixels[annotation.vid] = torch.randint(0, 256, (annotation.clips, 3, SIDE, SIDE), generator=draw).byte()
            facts = make_facts(duration=annotation.duration, fps=0.5, backbone=clip.name, fingerprint=clip.fingerprint)
            store.save_video(annotation.vid, EncodedVideo(facts, clip.encode_frames(pixels[annotation.vid]).half()))
        (query,) = clip.encode_queries([annotation.query])
        store.save_query(str(annotation.qid), query, clip)
    return pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP, and a video of each split with features of noise."""
    folder = tmp_path_factory.mktemp("shapes")
    clip = load_backbone(save_tiny_clip(folder / "clip", image_size=SIDE, patch=PATCH), layers=2)
    annotations = {split: describe(make_video(5, split)) for split in ("val", "test")}
    for split, known in annotations.items():
        (folder / f"{split}.jsonl").write_text("".join(map(to_line, known)), encoding="utf-8")
    save_features(folder / "features", clip, [*annotations["val"], *annotations["test"]])
    return folder


def test_curves_are_those_of_clip_itself(folder: Path, tmp_path: Path) -> None:
    annotations = describe(make_video(5, "val"))[:3]
    clip = load_backbone(folder / "clip", layers=2)
    frames = save_features(tmp_path, clip, annotations)
    store = FeatureStore.open(tmp_path)
    found = draw_curves(Similarity(str(folder / "clip"), store), annotations, store)

    model = CLIPModel.from_pretrained(folder / "clip").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "clip")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_PREPROCESSING.mean, CLIP_PREPROCESSING.std))
    for annotation, curve in zip(annotations, found, strict=True):
        with torch.inference_mode():
            tokens = tokenizer(annotation.query, return_tensors="pt", truncation=True, max_length=77)
            output = model(pixel_values=(frames[annotation.vid].float() / 255 - mean) / std, **tokens)
        expected = (output.image_embeds @ output.text_embeds[0]).numpy()
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(curve, expected, atol=2e-3)  # features are kept in fp16


def test_features_of_another_clip_are_refused(folder: Path, tmp_path: Path) -> None:
    other = save_tiny_clip(tmp_path / "other", seed=1, image_size=SIDE, patch=PATCH)
    with pytest.raises(FeatureError, match=r"features: was not made with .*other; name its CLIP with --clip"):
        Similarity(str(other), FeatureStore.open(folder / "features"))


def test_a_clip_without_projections_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "clip", tmp_path / "half")
    weights = load_file(tmp_path / "half" / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"half: has no visual_projection.weight, .*; give a whole model"):
        Similarity(str(tmp_path / "half"), FeatureStore.open(folder / "features")).frames(torch.zeros(1, 32))


@given(curves, st.floats(0.1, 5))
def test_smoothing_stays_within_the_curve(curve: np.ndarray, width: float) -> None:
    smoothed = smooth(curve, width)
    assert smoothed.min() >= curve.min() - 1e-9
    assert smoothed.max() <= curve.max() + 1e-9
    np.testing.assert_allclose(smooth(curve[::-1], width), smoothed[::-1], atol=1e-12)
    np.testing.assert_allclose(smooth(curve + 1, width), smoothed + 1, atol=1e-9)


def test_smoothing_spreads_a_peak_by_the_gaussian() -> None:
    peak = smooth(np.eye(1, 41, 20)[0], 2.0)
    np.testing.assert_allclose(peak[22] / peak[20], np.exp(-0.5), rtol=1e-6)
    assert np.argmax(peak) == 20


@given(curves, st.sampled_from(sorted(THRESHOLDS)), st.floats(0, 1), st.sampled_from([0.0, 1.0]))
def test_moments_are_the_frames_above_the_threshold(
    curve: np.ndarray, scale: str, threshold: float, width: float
) -> None:
    moments = cut_moments(curve, Rule(scale, threshold, width), fps=0.5)  # type: ignore[arg-type]
    covered = np.zeros(len(curve), dtype=bool)
    for start, end, score in moments.tolist():
        frames = slice(int(start / 2), int(end / 2))
        assert not covered[max(frames.start - 1, 0) : frames.stop + 1].any()  # runs do not touch
        covered[frames] = True
        np.testing.assert_allclose(score, smooth(curve, width)[frames].mean(), atol=1e-12)
    above = measure(smooth(curve, width), scale) >= threshold  # type: ignore[arg-type]
    np.testing.assert_array_equal(covered, above)
    assert moments[:, 2].tolist() == sorted(moments[:, 2], reverse=True)


def test_scales_do_not_mind_an_affine_change_except_cosine() -> None:
    curve = np.random.default_rng(0).normal(size=25)
    for scale in ("range", "rank"):
        np.testing.assert_allclose(measure(3 * curve - 2, scale), measure(curve, scale), atol=1e-12)
    assert measure(np.full(4, 0.3), "range").tolist() == [0, 0, 0, 0]
    assert measure(np.array([0.3]), "rank").tolist() == [0]


def test_the_rule_that_finds_the_moments_is_chosen() -> None:
    truths, found = [], []
    for index in range(6):
        # Moments stand 0.25 above a floor that differs from query to query: no cosine threshold fits all of them.
        moment = (4.0 + 2 * index, 14.0 + 6 * (index % 2) + 2 * index)
        curve = np.full(30, 0.1 * index)
        curve[int(moment[0] / 2) : int(moment[1] / 2)] += 0.25
        truths.append(Annotation(qid=index, vid="v", query="q", duration=60, moments=(moment,)))
        found.append(curve)
    rule, mean_ap = choose_rule(found, truths, fps=0.5)
    assert (rule.scale, rule.width, mean_ap) == ("range", 0, 100)


def test_the_script_chooses_on_val_and_reports_test(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(folder), "--clip", str(folder / "clip"), "--json", str(tmp_path / "zero.json")])
    written = json.loads((tmp_path / "zero.json").read_text())
    assert written["queries"] == len(describe(make_video(5, "test")))
    assert written["rule"]["threshold"] in THRESHOLDS[written["rule"]["scale"]]
    assert {"MR-full-mAP", "HL-min-VeryGood-Hit1"} <= written["metrics"].keys()
    assert f"MR-full-mAP             {written['metrics']['MR-full-mAP']:6.2f}" in capsys.readouterr().out
