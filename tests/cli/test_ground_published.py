"""The path of a user of the published model: an authors' file converted, a CLIP of its widths, real videos."""

import json
from pathlib import Path

import pytest
import torch
from support.files import shared_file
from support.golden import official_state_dict
from support.models import save_tiny_clip
from typer.testing import CliRunner

from r2tuning.cli.main import app


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint converted from the official layout, and a shallow CLIP of ViT-B/32's widths and patches."""
    folder = tmp_path_factory.mktemp("published")
    name = "r2_tuning_qvhighlights-ed516355.pth"
    torch.save({"meta": {"epoch": 30}, "state_dict": official_state_dict("grounding")}, folder / name)
    result = CliRunner().invoke(app, ["convert", str(folder / name), str(folder / "model")])
    assert result.exit_code == 0, result.output
    return folder / "model", save_tiny_clip(folder / "clip", video_width=768, query_width=512, depth=4, patch=32)


@pytest.mark.parametrize("name", ["charades.mp4", "nature_24s.mp4", "pancake.mkv", "rotated_90.mp4"])
def test_two_queries_on_a_real_video(folders: tuple[Path, Path], name: str) -> None:
    video = shared_file(f"media/{name}")
    model, clip = folders
    queries = ["a person opens a door", "a person sits down"]
    options = ["--model", str(model), "--backbone", str(clip), "--json", "-"]
    result = CliRunner().invoke(app, ["ground", str(video), *queries, *options])
    assert result.exit_code == 0, result.output
    answers = json.loads(result.stdout)
    assert [answer["query"] for answer in answers] == queries
    for answer in answers:
        assert answer["model"] == "qvhighlights"
        assert len(answer["saliency"]["scores"]) == max(1, int(answer["duration"] * 0.5 + 0.5))
        assert 1 <= len(answer["moments"]) <= 5
        for moment in answer["moments"]:
            assert 0 <= moment["start"] <= moment["end"] <= answer["duration"]
            assert 0 < moment["score"] <= 1
