"""A calibration beside the weights changes what scores say, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from support.models import save_tiny_model
from support.videos import write_video

from r2tuning import EncodedVideo, Grounder
from r2tuning.checkpoints.folder import save_calibration
from r2tuning.decoding.calibration import Calibration, PresenceMap, ScoreMap, find_evidence, log_odds, sigmoid

QUERIES = ["a dog", "a cat on a mat"]
CALIBRATION = Calibration(
    moments=ScoreMap(slope=0.5, offset=1),
    saliency=ScoreMap(slope=3, offset=-1),
    presence=PresenceMap(moment=0.25, saliency=2, offset=-0.5, threshold=0.4),
)


@pytest.fixture(scope="module")
def raw(folder: Path) -> Grounder:
    return Grounder.from_pretrained(save_tiny_model(folder, window=12))


@pytest.fixture(scope="module")
def calibrated(raw: Grounder, folder: Path) -> Grounder:
    save_calibration(folder / "model", CALIBRATION, "tests", force=False)
    return Grounder.from_pretrained(folder / "model")


@pytest.fixture(scope="module")
def video(raw: Grounder, folder: Path) -> EncodedVideo:
    return raw.encode(write_video(folder / "video.mp4", frames=200, fps=10))


def test_scores_are_mapped_and_times_stay(raw: Grounder, calibrated: Grounder, video: EncodedVideo) -> None:
    for before, after in zip(raw.ground(video, QUERIES), calibrated.ground(video, QUERIES), strict=True):
        assert (before.calibrated, before.presence, before.presence_threshold, before.present) == (False,) + 3 * (None,)
        assert [(m.start, m.end) for m in after.moments] == [(m.start, m.end) for m in before.moments]
        scores = np.array([m.score for m in before.moments])
        np.testing.assert_allclose([m.score for m in after.moments], sigmoid(0.5 * log_odds(scores) + 1))
        np.testing.assert_allclose(after.saliency.scores, sigmoid(3 * before.saliency.scores.astype(float) - 1))
        np.testing.assert_array_equal(after.saliency.times, before.saliency.times)
        moment, saliency, _ = find_evidence(scores, before.saliency.scores)
        assert after.calibrated
        assert after.presence == pytest.approx(float(sigmoid(0.25 * moment + 2 * saliency - 0.5)))
        assert after.presence_threshold == 0.4
        assert after.present is (after.presence >= 0.4)
        assert after.windows > 1


def test_the_threshold_is_on_calibrated_scores_and_presence_does_not_depend_on_it(
    calibrated: Grounder, video: EncodedVideo
) -> None:
    whole = calibrated.ground(video, QUERIES[0])
    scores = [m.score for m in whole.moments]
    middle = (scores[2] + scores[3]) / 2
    few = calibrated.ground(video, QUERIES[0], threshold=middle)
    assert few.moments == whole.moments[:3]
    assert few.presence == whole.presence
    assert calibrated.ground(video, QUERIES[0], top_k=1).presence == whole.presence
    assert calibrated.ground(video, QUERIES[0], threshold=1).moments == []
    everything = calibrated.ground(video, QUERIES[0], threshold=0).moments
    assert {m.score for m in everything[len(scores) :]} <= {0.0}


def test_with_another_clip_scores_stay_raw(calibrated: Grounder, folder: Path, video: EncodedVideo) -> None:
    other = Grounder.from_pretrained(folder / "model", backbone=folder / "clip")
    assert not other.ground(video, QUERIES[0]).calibrated


def test_an_answer_as_json(calibrated: Grounder, video: EncodedVideo) -> None:
    answer = calibrated.ground(video, QUERIES[0])
    assert answer.presence is not None
    found = answer.to_dict()
    assert found["calibrated"] is True
    assert found["presence"] == round(answer.presence, 6)
    assert found["present"] is answer.present
    assert all(0 < score < 1 for score in found["saliency"]["scores"])
