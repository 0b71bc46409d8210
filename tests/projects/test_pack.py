"""The mean of checkpoints."""

from pathlib import Path

import pytest
import torch
from support.small_benchmarks import make_model

from projects.moving_shapes.pack import average_checkpoints
from r2tuning.checkpoints import load_state, save_checkpoint
from r2tuning.errors import CheckpointError


def test_each_weight_is_the_mean_of_all(tmp_path: Path) -> None:
    config, model = make_model()
    state = model.state_dict()
    for name, factor in (("one", 1.0), ("two", 2.0), ("three", 6.0)):
        save_checkpoint(tmp_path / name, {key: factor * value for key, value in state.items()}, config)
    average_checkpoints([str(tmp_path / name) for name in ("one", "two", "three")], tmp_path / "mean")
    mean = load_state(tmp_path / "mean")
    assert mean.keys() == state.keys()
    for key, value in state.items():
        assert mean[key].dtype == torch.float16
        torch.testing.assert_close(mean[key], (3 * value.double()).half())


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    config, model = make_model()
    save_checkpoint(tmp_path / "one", model.state_dict(), config)
    with pytest.raises(CheckpointError, match=r"demo: differs in shape from .*one; average checkpoints of one model"):
        average_checkpoints([str(tmp_path / "one"), "demo"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
