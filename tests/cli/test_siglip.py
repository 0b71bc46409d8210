"""SigLIP 2 from videos to answers as a user runs it, and pairs of model and features that do not belong together."""

import json
import shutil
from pathlib import Path

import pytest
from support.cli import refused, run
from support.models import save_tiny_clip, save_tiny_model, save_tiny_siglip
from support.videos import write_video
from typer.testing import Result

from r2tuning.backbones import load_backbone
from r2tuning.checkpoints import load_config
from r2tuning.features.store import FeatureStore

SMALL = ["model.hidden=16", "model.heads=2", "model.layers=3", "training.epochs=2", "training.batch_size=2"]
SETTINGS = [*SMALL, "optimizer.drop_epochs=[1]", "optimizer.warmup_steps=1", "training.accelerator=cpu"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP 2 and a CLIP of the same widths, layers and patches; videos; moments; a model trained on SigLIP 2."""
    folder = tmp_path_factory.mktemp("siglip")
    save_tiny_siglip(folder / "siglip")
    save_tiny_model(folder / "old")  # trained on CLIP, and does not say so
    (folder / "videos").mkdir()
    rows = ["video,start,end,query"]
    for number in range(4):
        write_video(folder / "videos" / f"{number}.mp4", frames=80, fps=10, codec="mpeg4")
        rows += [f"{number}.mp4,{start},{start + 2},a dog {start}" for start in (1, 4)]
    (folder / "moments.csv").write_text("\n".join(rows))
    table, videos, features = folder / "moments.csv", folder / "videos", folder / "features"
    done = run("extract", table, videos, features, "--backbone", folder / "siglip", "--layers", 3, "--fps", 1)
    assert done.exit_code == 0, done.output
    settings = [*SETTINGS, f"data.annotations={table}", f"data.videos={videos}", f"data.features={features}"]
    made = {path: path.stat().st_mtime_ns for path in features.rglob("*.safetensors")}
    for name, backbone in (("siglip", folder / "siglip"), ("clip", folder / "old" / "clip")):
        mine = [*settings, f"backbone={backbone}"]
        if name == "clip":
            refused(run("train", "custom", *_set(mine), "--run", folder / "no"), 1, "features of another backbone")
            mine[mine.index(f"data.features={features}")] = f"data.features={folder / 'clip-features'}"
        done = run("train", "custom", *_set(mine), "--run", folder / f"{name}-run")
        assert done.exit_code == 0, done.output
    assert {path: path.stat().st_mtime_ns for path in made} == made
    return folder


def _set(settings: list[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def ground(video: Path, model: Path, *options: object) -> Result:
    return run("ground", video, "a dog", "--model", model, "--device", "cpu", *options)


def test_what_is_recorded(place: Path) -> None:
    backbone, store = load_backbone(place / "siglip"), FeatureStore.open(place / "features")
    assert store.facts is not None
    facts = store.video_facts("0.mp4")
    assert facts is not None
    config = load_config(place / "siglip-run" / "best")
    for made in (store.facts, facts, config):
        assert (made.backbone, made.fingerprint, made.summary) == (str(place / "siglip"), backbone.fingerprint, "mean")
    assert (store.tokens, store.video_width, store.query_width) == (17, 32, 16)
    assert load_config(place / "clip-run" / "best").summary == "cls"


def test_a_video_is_grounded(place: Path, tmp_path: Path) -> None:
    video, model = place / "videos" / "0.mp4", place / "siglip-run" / "best"
    direct = ground(video, model, "--json", "-", "--save-features", tmp_path / "saved.safetensors")
    assert direct.exit_code == 0, direct.output
    assert json.loads(direct.stdout)[0]["moments"]
    saved = ground(tmp_path / "saved.safetensors", model, "--json", "-")
    assert json.loads(saved.stdout)[0]["moments"] == json.loads(direct.stdout)[0]["moments"]
    shutil.copytree(place / "siglip", tmp_path / "moved")  # the weights count, not where they are
    moved = ground(video, model, "--json", "-", "--backbone", tmp_path / "moved")
    assert json.loads(moved.stdout)[0]["moments"] == json.loads(direct.stdout)[0]["moments"]


def test_a_backbone_of_another_family_or_other_weights_is_refused(place: Path, tmp_path: Path) -> None:
    video = place / "videos" / "0.mp4"
    other = save_tiny_clip(tmp_path / "other", seed=1)
    for model, backbone in (
        (place / "siglip-run" / "best", place / "old" / "clip"),
        (place / "clip-run" / "best", place / "siglip"),
        (place / "clip-run" / "best", other),
        (place / "old" / "model", place / "siglip"),
    ):
        answer = ground(video, model, "--backbone", backbone)
        name = load_config(model).name
        refused(answer, 1, f"error: {backbone}: {name} was trained on features of another backbone; give ")
    # A checkpoint that says nothing of the weights accepts a CLIP of the same shape, as before.
    assert ground(video, place / "old" / "model", "--backbone", other).exit_code == 0


def test_features_of_another_family_are_refused(place: Path, tmp_path: Path) -> None:
    video = place / "videos" / "0.mp4"
    models = {"siglip": place / "siglip-run" / "best", "clip": place / "clip-run" / "best"}
    for name, model in models.items():
        saved = ground(video, model, "--save-features", tmp_path / f"{name}.safetensors")
        assert saved.exit_code == 0, saved.output
    for features, model in (
        ("clip", models["siglip"]),
        ("siglip", models["clip"]),
        ("siglip", place / "old" / "model"),
    ):
        answer = ground(tmp_path / f"{features}.safetensors", model)
        refused(answer, 1, "features were made with another backbone", "encode the video again")


def test_a_model_is_not_evaluated_on_features_of_another_family(place: Path) -> None:
    recipe = place / "siglip-run" / "best" / "recipe.yaml"
    answer = run("evaluate", recipe, "--checkpoint", place / "clip-run" / "best")
    refused(answer, 1, "features were made with another backbone")
