"""Search across the videos of a split, with the demo model on a small Moving Shapes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli import refused, run

from r2tuning.backbones import Backbone, load_backbone
from r2tuning.checkpoints import find_checkpoint, read_checkpoint
from r2tuning.checkpoints.folder import load_calibration
from r2tuning.datasets import Annotation, find_benchmark, load_annotations
from r2tuning.decoding.calibration import RankingMap
from r2tuning.errors import MetricError
from r2tuning.evaluation.predict import open_query, open_video, see_whole
from r2tuning.evaluation.ranking import Candidate, fit_ranking, rank_candidates, search_videos
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder
from r2tuning.metrics import CorpusTruth, evaluate_corpus
from r2tuning.synthetic.generate import synthesize

SHAPES = find_benchmark("moving-shapes")
QUERIES = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    synthesize(folder, 4, split="val")
    for name in ("val", "val_absent"):
        file = folder / f"{name}.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:: max(1, len(lines) // QUERIES)]))
        extracted = run(
            "extract", file, folder / "videos", folder / "features", "-b", "moving-shapes", "--backbone", "demo"
        )
        assert extracted.exit_code == 0, extracted.output
    return folder


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("r2tuning/demo", layers=2)


@pytest.fixture(scope="module")
def queries(data: Path) -> list[Annotation]:
    return load_annotations(data / "val.jsonl", SHAPES)


@pytest.fixture(scope="module")
def videos(queries: list[Annotation]) -> list[Annotation]:
    return list({query.vid: query for query in queries}.values())


def make_grounder() -> Grounder:
    config, model = read_checkpoint("demo")
    return Grounder(model, see_whole(config), None)


def test_every_pair_is_as_if_it_were_asked_alone(
    data: Path, queries: list[Annotation], videos: list[Annotation], backbone: Backbone
) -> None:
    """The cosine is that of the image and text embeddings, the other evidence that of an answer."""
    grounder, store = make_grounder(), FeatureStore.open(data / "features")
    told: list[tuple[int, int]] = []
    found = search_videos(
        grounder, backbone, queries, videos, SHAPES, store, most=None, progress=lambda *done: told.append(done)
    )
    assert told == [(len(queries) * n, len(queries) * 4) for n in (1, 2, 3, 4)]
    for query, candidates in zip(queries, found, strict=True):
        assert [candidate.video for candidate in candidates] == [video.vid for video in videos]
        sentence = backbone.embed_queries([query.query])[0]
        for video, candidate in zip(videos, candidates, strict=True):
            encoded = open_video(video, SHAPES, store, 2)
            (answer,) = grounder.answer(encoded, [open_query(query, SHAPES, store, 2)], overlapping=False)
            expected = [[m.start, m.end, m.score] for m in answer.moments]
            np.testing.assert_allclose(candidate.moments, expected, rtol=0, atol=1e-4)
            cosines = [
                float(torch.cosine_similarity(backbone.embed_frames(frame[None])[0], sentence, dim=0))
                for frame in encoded.read(0, encoded.frames).transpose(0, 1)
            ]
            top = np.sort(answer.saliency.scores)[-2:].mean()
            assert answer.presence is not None
            odds = np.log(answer.presence / (1 - answer.presence))
            np.testing.assert_allclose(candidate.evidence, [top, odds, max(cosines)], rtol=1e-3, atol=1e-4)


def test_candidates_are_the_videos_of_the_nearest_frames(
    data: Path, queries: list[Annotation], videos: list[Annotation], backbone: Backbone
) -> None:
    grounder, store = make_grounder(), FeatureStore.open(data / "features")
    everywhere = search_videos(grounder, backbone, queries, videos, SHAPES, store, most=None)
    some = search_videos(grounder, backbone, queries, videos, SHAPES, store, most=2)
    for all_of, two in zip(everywhere, some, strict=True):
        nearest = sorted(all_of, key=lambda candidate: -candidate.evidence[2])[:2]
        assert {candidate.video for candidate in two} == {candidate.video for candidate in nearest}


def draw_candidate(video: str, score: float, cosine: float) -> Candidate:
    return Candidate(video, np.array([[0, 10, score], [20, 30, score / 2]]), np.array([0.5, 0.0, cosine]))


def test_the_fit_weighs_what_tells() -> None:
    """The cosine tells whether a candidate is right, the score does not; ignored videos are left out."""
    draw = np.random.default_rng(0)
    found, truths = [], []
    for qid in range(60):
        near, far = draw.uniform(0.6, 0.9), draw.uniform(0.1, 0.5)
        scores = draw.uniform(0.2, 0.8, 3)
        found.append(
            [
                draw_candidate("a", scores[0], near),
                draw_candidate("b", scores[1], far),
                draw_candidate("c", scores[2], 1),
            ]
        )
        truths.append(CorpusTruth(qid, ["a"], [[0, 9]], ignored={"c"}))
    ranking = fit_ranking(found, truths)
    assert ranking.cosine > 10
    assert ranking.moment < 0.3
    assert (ranking.saliency, ranking.head) == (0, 0)  # constant
    queries = [Annotation(qid, "a", "a dog", 30) for qid in range(60)]
    assert evaluate_corpus(rank_candidates(queries, found, ranking), truths)["VCMR-R1@0.7"] == 100
    only = fit_ranking(found, truths, ["moment"])
    assert (only.cosine, only.saliency) == (0, 0)
    assert evaluate_corpus(rank_candidates(queries, found, only), truths)["VCMR-R1@0.7"] < 80
    with pytest.raises(MetricError, match="0 of 120 are right"):
        fit_ranking(found, [CorpusTruth(qid, ["b"], [[50, 60]], ignored={"c"}) for qid in range(60)])


def test_probabilities_rank_moments_and_a_hundred_count() -> None:
    many = [Candidate("v", np.array([[n, n + 1, 0.5 - n / 1000]]), np.array([0.5, 0, 0.5])) for n in range(120)]
    (ranked,) = rank_candidates([Annotation(1, "v", "a dog", 200)], [many], RankingMap())
    assert ranked.windows[:, 0].tolist() == list(range(100))
    assert (np.diff(ranked.windows[:, 2]) < 0).all()
    assert ((ranked.windows[:, 2] > 0) & (ranked.windows[:, 2] < 1)).all()


def test_commands_fit_and_measure(data: Path, tmp_path: Path, queries: list[Annotation]) -> None:
    model = shutil.copytree(find_checkpoint("demo"), tmp_path / "model")
    (model / "calibration.json").unlink()
    calibrated = run("calibrate", model, "moving-shapes", "--annotations", data, "--library", "--candidates", "3")
    assert calibrated.exit_code == 0, calibrated.output
    calibration = load_calibration(model)
    assert calibration is not None
    assert calibration.ranking is not None
    assert calibration.ranking != RankingMap()
    answers = tmp_path / "found.jsonl"
    arguments = ["evaluate", "moving-shapes", "-c", model, "--annotations", data, "--split", "val", "--corpus"]
    result = run(*arguments, "--predictions", answers, "--json", "-")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert (content["videos"], content["queries"], content["candidates"]) == (4, len(queries), 20)
    scored = run("score", answers, data / "val.jsonl", "-b", "moving-shapes", "--json", "-")
    assert json.loads(scored.stdout)["metrics"] == content["metrics"]
    assert content["metrics"]["VCMR-R10@0.5"] > 80
    one = run(*arguments, "--candidates", "1")
    assert one.exit_code == 0
    assert one.stdout.startswith(f"demo on moving-shapes, val split, across 4 videos, {len(queries)} queries\n")
    refused(run(*arguments, "--bins"), 2, "--corpus")
