"""Post-processing against the released implementation's numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from r2tuning.decoding.decode import DecodingConfig, clamp_moments, finish_moments, suppress_overlaps

CASES = json.loads((Path(__file__).parents[1] / "golden" / "postprocess.json").read_text())


def config_of(case: dict) -> DecodingConfig:
    nms = case["nms"] or {"type": "none"}
    return DecodingConfig(
        unit=case["unit"],
        nms=nms["type"],
        nms_threshold=nms.get("thres", 0.7),
        nms_sigma=nms.get("sigma", 0.5),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['duration']}-{c['unit']}-{c['nms']}")
def test_golden_postprocessing(case: dict) -> None:
    final = finish_moments(np.array(case["boundary"]), case["duration"], config_of(case))
    expected = np.array(case["expected"])
    assert final.shape == expected.shape
    kept = expected[:, 2] > 0
    np.testing.assert_allclose(final[kept], expected[kept], atol=1e-4)
    assert (final[~kept, 2] == 0).all()

    def as_set(rows: np.ndarray) -> list:
        return sorted(map(tuple, rows.round(3).tolist()))

    assert as_set(final[~kept]) == as_set(expected[~kept])


@pytest.mark.parametrize("nms", ["normal", "linear", "gaussian"])
def test_settling_only_the_top_gives_the_same_top(nms: str) -> None:
    random = np.random.default_rng(0)
    moments = np.sort(random.uniform(0, 150, (300, 3)), axis=1)
    moments[:, 2] = random.uniform(0, 1, 300)
    config = DecodingConfig(nms=nms)
    np.testing.assert_array_equal(suppress_overlaps(moments, config, 7), suppress_overlaps(moments, config)[:7])


def test_inputs_are_left_alone_and_nothing_is_fine() -> None:
    moments = np.array([[-1.0, 3.3, 0.5], [0.0, 3.0, 0.4]])
    before = moments.copy()
    finish_moments(moments, 2.0, DecodingConfig(unit=1))
    np.testing.assert_array_equal(moments, before)
    assert finish_moments(np.zeros((0, 3)), 10.0, DecodingConfig()).shape == (0, 3)


def test_a_moment_past_the_end_has_no_length() -> None:
    assert clamp_moments(np.array([[50.0, 60.0, 0.3]]), 10.0, None).tolist() == [[10.0, 10.0, 0.3]]
