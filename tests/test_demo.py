"""The demo: a model that comes with the package, and says when it is asked about what it does not know."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import numpy as np
import pytest
import torch
from support.cli import run
from support.files import shared_file
from support.hub import serve_hub, use_hub
from support.models import place_demo
from support.videos import write_video
from typer.testing import Result

from r2tuning import Grounder
from r2tuning.checkpoints import DOMAIN_FILE, Domain, find_checkpoint, load_state, read_checkpoint
from r2tuning.checkpoints.published import DEMO_FOLDER, DEMO_FPS, DEMO_WORLD
from r2tuning.decoding import decode
from r2tuning.decoding.decode import finish_moments
from r2tuning.errors import CheckpointError, CheckpointWarning
from r2tuning.synthetic import describe, make_video
from r2tuning.synthetic.generate import is_written
from r2tuning.synthetic.queries import to_line

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
MB = 1e6


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return place_demo(monkeypatch, tmp_path / "placed")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "video.mp4", frames=100, fps=10)


def ground(*arguments: object) -> Result:
    return run("ground", *arguments)


def test_its_name_wins_over_a_folder(head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("demo") == find_checkpoint("Demo") == head
    assert find_checkpoint("./demo") == Path("demo")
    with pytest.raises(CheckpointError, match="did you mean demo"):
        find_checkpoint("demos")


def test_fp16_weights_become_fp32_ones(head: Path) -> None:
    _, model = read_checkpoint("demo")
    stored = load_state(head)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, stored[name].float())


def test_the_command_line_answers_without_a_hub(
    head: Path, video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serve_hub({}) as hub:
        use_hub(monkeypatch, hub.url)
        result = ground(video, "a dog", "--model", "demo", "--save-features", tmp_path / "video.safetensors")
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        assert "model demo" in result.stdout
        again = ground(tmp_path / "video.safetensors", "a dog", "--model", "demo", "--backbone", "r2tuning/demo")
        assert again.stdout == result.stdout
        assert hub.requests == []


def test_a_video_of_another_world_is_told(head: Path, video: Path) -> None:
    encoded = Grounder.from_pretrained("demo").encode(video)
    own = encoded.read(0, encoded.frames)[-1, :, 0].float()
    spread = torch.randn(200, own.shape[1], generator=torch.Generator().manual_seed(0))
    Domain.fit(own.mean(0) + spread, own.mean(0) + spread, "marks").save(head / DOMAIN_FILE)
    Grounder.from_pretrained("demo").ground(encoded, "a dog")  # a warning would fail
    Domain.fit(spread - 50, spread - 50, DEMO_WORLD).save(head / DOMAIN_FILE)
    expected = f"{video}: it looks unlike all that demo was trained on, which is {DEMO_WORLD}; "
    with pytest.warns(CheckpointWarning) as caught:
        Grounder.from_pretrained("demo").ground(encoded, ["a dog", "a cat"])
    assert [str(warning.message) for warning in caught] == [f"{expected}do not rely on this answer"]
    assert caught[0].filename == __file__
    result = ground(video, "a dog", "--model", "demo")
    assert result.exit_code == 0, result.output
    assert result.stderr == f"warning: {expected}do not rely on this answer\n"
    without_query = run("highlights", video, "--model", "demo")
    assert (without_query.exit_code, without_query.stderr) == (0, result.stderr)
    # Features of another CLIP cannot be compared.
    assert ground(video, "a dog", "--model", "demo", "--backbone", head.parent / "clip").stderr == ""


def test_without_a_hub_the_default_model_points_to_the_demo(
    head: Path, video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "ours"))
    advice = f"--model demo is already here, but it knows only {DEMO_WORLD}"
    uncached = ground(video, "a dog"), ground(video, "a dog", "--model", head, "--backbone", "someone/not-cached")
    for result, name in zip(uncached, ("qvhighlights", "someone/not-cached"), strict=True):
        assert (result.exit_code, result.stdout) == (1, "")
        notice, line = result.stderr.splitlines()
        assert notice.startswith("First use: downloading ")
        assert line.startswith(f"error: {name if name == 'qvhighlights' else head} needs ")
        assert f"https://huggingface.co/{'yeliudev/R2-Tuning/resolve' if name == 'qvhighlights' else name}" in line
        assert "http://127.0.0.1:9" in line
        assert line.endswith(advice)


def test_the_sample_is_what_its_script_makes() -> None:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import make_sample
    finally:
        sys.path.remove(str(EXAMPLES))
    script = make_video(make_sample.SEED, "test")
    assert is_written(script, EXAMPLES / "sample.mp4")
    assert (EXAMPLES / "sample.mp4").stat().st_size < 1 * MB
    lines = [to_line(query) for query in describe(script)]
    expected = "".join(lines[number] for number in make_sample.QUERIES)
    assert (EXAMPLES / "sample.jsonl").read_text(encoding="utf-8") == expected


def test_a_wheel_holds_every_file_and_is_small(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = ignore_patterns("__pycache__", "*.egg-info")
    copytree(ROOT / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, source)
    # Without isolation, which would fetch setuptools; the environment has it.
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q", "-w", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 16 * MB
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("r2tuning/")}
    files = [path.relative_to(ROOT / "src") for path in (ROOT / "src" / "r2tuning").rglob("*") if path.is_file()]
    assert packed == {path.as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_embedded_files_are_complete_and_small() -> None:
    folder = DEMO_FOLDER.parent
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert files.keys() >= {
        "README.md",
        "clip/config.json",
        "clip/model.safetensors",
        "clip/preprocessor_config.json",
        "clip/tokenizer.json",
        "head/config.json",
        "head/domain.safetensors",
        "head/model.safetensors",
    }
    assert sum(files.values()) < 12 * MB
    config, _ = read_checkpoint("demo")
    assert (config.name, config.backbone, config.fps) == ("demo", "r2tuning/demo", DEMO_FPS)


def test_the_demo_is_right_about_its_sample_and_asks_no_hub(tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    command = [sys.executable, str(EXAMPLES / "demo.py"), str(tmp_path / "plot.png")]
    with serve_hub({}) as hub:
        environment = {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert hub.requests == []
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\nVideo: ") == done.stdout.count("\ntruth 0:") == 3
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_real_video_is_not_of_its_world(tmp_path: Path) -> None:
    with pytest.warns(CheckpointWarning, match="it looks unlike all that demo was trained on"):
        answer = Grounder.from_pretrained("demo").ground(shared_file("media/charades.mp4"), "a person opens a door")
    assert answer.notes[0].kind == "domain"
    assert "do not rely on this answer" in answer.notes[0].text


def test_answers_are_those_of_double_precision() -> None:
    """Trained attention is sharp: projected patches in fp16 would move moments by up to a tenth of a second."""
    grounder = Grounder.from_pretrained("demo")
    encoded = grounder.encode(EXAMPLES / "sample.mp4")
    queries = grounder.backbone.encode_queries(["a red circle falls", "a blue square moves left"])
    answers = grounder.answer(encoded, queries)
    model = grounder.model.double()
    for query, answer in zip(queries, answers, strict=True):
        with torch.inference_mode():
            projected = model.project(encoded.read(0, encoded.frames)[None].double())
            (exact,) = decode(model.predict(projected, query.values[None].double()), encoded.facts.fps)
        moments = finish_moments(exact.moments.numpy(), encoded.facts.duration, grounder.config.decoding)
        found = [(moment.start, moment.end) for moment in answer.moments[:5]]
        assert len(found) == 5
        np.testing.assert_allclose(found, moments[: len(found), :2] + encoded.facts.start, rtol=0, atol=1e-3)
