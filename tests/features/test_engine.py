"""Features of another engine: they say so, do not join others, and can be asked without it."""

from pathlib import Path

import pytest
from support.models import save_tiny_model
from support.videos import write_video
from typer.testing import CliRunner

from r2tuning.backbones import load_backbone
from r2tuning.cli.main import app
from r2tuning.errors import FeatureError
from r2tuning.features import EncodedVideo
from r2tuning.features.extraction import VideoTask, extract_videos
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder

pytest.importorskip("onnxruntime", reason="the engine needs the extra onnx")
pytest.importorskip("onnx", reason="the engine needs the extra onnx")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "cache"))


def test_saved_features_are_asked_without_the_engine(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path)
    video = write_video(tmp_path / "a.mp4", frames=120)
    saved = tmp_path / "a.safetensors"
    command = ["ground", str(video), "a dog", "-m", str(model), "--engine", "onnx-int8", "--save-features", str(saved)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    encoded = EncodedVideo.load(saved)
    assert encoded.facts.engine == "onnx-int8"
    answer = Grounder.from_pretrained(model, device="cpu").ground(encoded, "a dog")
    assert len(answer.saliency.scores) == 4


def test_a_store_has_features_of_one_engine(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    plain = load_backbone(tmp_path / "clip", layers=3)
    coded = load_backbone(tmp_path / "clip", layers=3, engine="onnx-int8")
    tasks = [VideoTask("a", write_video(tmp_path / "a.mp4", frames=60), 1)]
    store = FeatureStore.create(tmp_path / "store", coded)
    assert extract_videos(tasks, store, coded).extracted == 1
    facts = FeatureStore.open(tmp_path / "store").video_facts("a")
    assert facts is not None
    assert facts.engine == "onnx-int8"
    with pytest.raises(FeatureError, match=r"has features of engine onnx-int8, not torch; .* --engine"):
        FeatureStore.create(tmp_path / "store", plain)
    # A file from elsewhere, put among the others.
    own = FeatureStore.create(tmp_path / "own", plain)
    own.save_video("a", EncodedVideo.load(next((tmp_path / "store").rglob("a.safetensors"))))
    with pytest.raises(FeatureError, match="was not made the way the store says"):
        own.video("a")
