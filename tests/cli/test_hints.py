"""What goes wrong in the first hour is told with the words that mend it."""

from pathlib import Path

import pytest
import torch
from support.cli import refused, run

from r2tuning.checkpoints.resolve import find_missing
from r2tuning.errors import TrainingError
from r2tuning.training.distributed import choose_accelerator
from r2tuning.training.recipes import TrainingConfig


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("meta", "meta: r2tuning runs on cpu, cuda and mps only; give --device cpu"),
        ("xla", "xla: r2tuning runs on cpu, cuda and mps only; give --device cpu"),
        ("gpu", "gpu: not a device"),
    ],
)
def test_devices_that_are_none(model: Path, video: Path, device: str, words: str) -> None:
    refused(run("ground", video, "a dog", "-m", model, "--device", device), 1, words)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an Apple GPU")
def test_a_mac_is_asked_for_elsewhere(model: Path, video: Path) -> None:
    refused(run("ground", video, "a dog", "-m", model, "--device", "mps"), 1, "mps: PyTorch sees no Apple GPU here")


@pytest.mark.parametrize(
    ("name", "words"),
    [("tvsum", "there are tvsum/BK, tvsum/BT,"), ("dog", "there is youtube-highlights/dog"), ("demos", "mean demo?")],
)
def test_a_part_of_a_name_lists_what_fits(video: Path, name: str, words: str) -> None:
    refused(run("ground", video, "a dog", "-m", name), 1, f"{name}: neither a file", words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_for_training_that_is_not_there() -> None:
    with pytest.raises(TrainingError, match=r"training\.accelerator=cuda: .*set training\.accelerator=cpu"):
        choose_accelerator(TrainingConfig(accelerator="cuda"))


def test_a_benchmark_that_is_not_there_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path))
    refused(run("evaluate", "charades-sta"), 1, "run r2tuning download charades-sta")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R2TUNING_CACHE", "cache")  # a long path would be shortened in the middle
    refused(run("evaluate", "moving-shapes"), 1, "run r2tuning synthesize cache/datasets/moving-shapes --split ")


def test_a_frame_that_is_not_in_the_video(model: Path, video: Path, tmp_path: Path) -> None:
    asked = run("attention", video, "a dog", "-m", model, "--at", 99, "-o", tmp_path / "a.png")
    refused(asked, 2, "99 s is outside the video, which lasts from 0 to 12 s")


def test_what_is_missing_is_known_before_anything_is_asked(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    assert [str(one) for one in find_missing("qvhighlights")] == [
        "qvhighlights (~11 MB)",
        "openai/clip-vit-base-patch32 (~605 MB)",
    ]
    assert [str(one) for one in find_missing("tvsum/BK", "SigLIP2-B/16")][1:] == [
        "google/siglip2-base-patch16-224 (~1.5 GB)"
    ]
    assert [str(one) for one in find_missing(model, "someone/clip")] == ["someone/clip (size unknown)"]
    assert find_missing(model) == find_missing("demo") == []
    assert find_missing(model, "./no-folder") == []  # which is nowhere to download


def test_a_bad_video_is_refused_before_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path))
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    refused(run("ground", bad, "a dog"), 1, "bad.mp4")
