"""Two processes are one with a doubled batch: same weights, whatever falls to which of them."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.planted import plant_highlights
from support.small_benchmarks import save_charades
from torch import Tensor

from r2tuning.training.loop import Report, train
from r2tuning.training.recipes import load_recipe

STILL = ["model.dropout=0", "model.drop_path=0"]  # random masks are drawn by each process for itself
SMALL = ["model.layers=2", "model.hidden=16", "model.heads=2", "data.workers=0", "training.accelerator=cpu"]
QUICK = ["optimizer.lr=2e-3", "optimizer.warmup_steps=2", "training.log_every=1", "training.validate_every=1000"]
ZERO_GRADIENT = ("video_projection.bias", "attention.key.bias")
"""A bias of keys drops out of the softmax: its gradient is rounding noise, which Adam blows up to whole steps."""


def start_two(recipe: str, settings: list[str], folder: Path) -> subprocess.Popen[str]:
    sets = [part for setting in [*settings, "training.devices=2"] for part in ("--set", setting)]
    command = [sys.executable, "-m", "r2tuning", "train", recipe, *sets, "--run", str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def read_totals(folder: Path) -> list[float]:
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        return [float(row["total"]) for row in csv.DictReader(file)]


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Largest difference of any weight, apart from those that follow noise."""
    assert set(one) == set(other)
    return max((one[name] - other[name]).abs().max().item() for name in one if not name.endswith(ZERO_GRADIENT))


@pytest.mark.slow
def test_moments_of_two_processes(tmp_path: Path) -> None:
    """Groups of 3 and of 1 query on videos of 3 lengths: shares of 1 and 2 groups, so of 1 to 6 queries."""
    data = save_charades(tmp_path / "data")
    own = [f"data.annotations={data}", "data.queries_per_video=3", "training.epochs=3"]
    settings = [*SMALL, *STILL, *QUICK, *own]
    process = start_two("charades-sta", [*settings, "training.batch_size=5"], tmp_path / "two")
    for run, size in (("one", 10), ("half", 5)):
        train(load_recipe("charades-sta", [*settings, f"training.batch_size={size}"]), tmp_path / run)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert stdout.count("Best checkpoint: ") == 1, "only one process speaks"
    assert stderr.count("Training on ") == 1
    assert "[rank1]" not in stderr
    two, one, half = (load_file(tmp_path / run / "last" / "model.safetensors") for run in ("two", "one", "half"))
    assert difference(two, one) < 1e-4
    assert difference(half, one) > 1e-3  # so the line above can fail
    assert read_totals(tmp_path / "two") == pytest.approx(read_totals(tmp_path / "one"), rel=1e-4)
    assert len(read_totals(tmp_path / "two")) == 6


@pytest.mark.slow
def test_highlights_of_two_processes_that_are_interrupted(tmp_path: Path) -> None:
    """9 videos in batches of 4: of the last one nothing falls to the first process."""
    data = plant_highlights(tmp_path / "data", train=9)
    settings = [*SMALL, *STILL, *QUICK, f"data.annotations={data}", "training.ema=0.5", "training.epochs=200"]
    process = start_two("youtube-highlights/dog", [*settings, "training.batch_size=2"], tmp_path / "two")
    log = tmp_path / "two" / "log.csv"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 4):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)  # which tells the other process
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert stderr.count("stopped; the state is saved, continue with: ") == 1

    steps = len(read_totals(tmp_path / "two"))

    def stop(report: Report) -> None:
        if report.step == steps:
            os.kill(os.getpid(), signal.SIGINT)

    one = load_recipe("youtube-highlights/dog", [*settings, "training.batch_size=4"])
    assert not train(one, tmp_path / "one", report=stop).finished
    states = [torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("two", "one")]
    for name in ("step", "epoch", "batch"):
        assert states[0][name] == states[1][name], name
    for name in ("model", "ema"):
        assert difference(states[0][name], states[1][name]) < 1e-4, name
    assert read_totals(tmp_path / "two") == pytest.approx(read_totals(tmp_path / "one"), rel=1e-4)
