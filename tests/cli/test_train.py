"""``r2tuning train`` as a user runs it: that it learns, survives being killed, and says what is wrong."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.files import read_csv
from support.models import save_tiny_clip
from support.planted import plant_charades, plant_highlights
from support.small_benchmarks import save_charades
from support.videos import write_video
from typer.testing import CliRunner, Result

from r2tuning.cli.main import _show_warning, app
from r2tuning.errors import R2TuningWarning
from r2tuning.evaluation.predict import evaluate_model
from r2tuning.features.store import FeatureStore
from r2tuning.training.build import build_model, describe_model, open_splits
from r2tuning.training.recipes import load_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

LEARNING = ["model.layers=2", "model.heads=4", "model.dropout=0", "data.workers=0", "optimizer.warmup_steps=20"]
LEARNING += ["optimizer.lr=3e-3", "training.batch_size=8"]


def arguments(recipe: str, settings: list[str], run: Path, *options: str) -> list[str]:
    return ["train", recipe, *(part for s in settings for part in ("--set", s)), "--run", str(run), *options]


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, list(map(str, args)))


def start(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "r2tuning", *args]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def score_untrained(recipe: str, settings: list[str]) -> dict[str, float]:
    checked = load_recipe(recipe, settings)
    _, split = open_splits(checked)
    model = build_model(checked, split.store)
    return evaluate_model(model, describe_model(checked, model, split.store.facts), split)


@pytest.mark.parametrize("of_the_paper", [[], ["model.form=paper", "losses.recipe=paper"]], ids=["released", "paper"])
def test_moments_are_learned(tmp_path: Path, of_the_paper: list[str]) -> None:
    """R1@0.5 of 50 unseen queries: untrained 6, after 175 steps 100."""
    plant_charades(tmp_path / "data", train=200, test=50)
    settings = [
        *LEARNING,
        *of_the_paper,
        f"data.annotations={tmp_path / 'data'}",
        "model.hidden=64",
        "decoding.unit=null",
    ]
    settings += ["training.epochs=7", "optimizer.drop_epochs=[5]", "training.validate_every=7"]
    process = start(*arguments("charades-sta", settings, tmp_path / "run"))
    untrained = score_untrained("charades-sta", settings)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert untrained["MR-full-R1@0.5"] < 20
    (row,) = read_csv(tmp_path / "run" / "validation.csv")
    assert float(row["MR-full-R1@0.5"]) > 90
    assert float(row["MR-full-mAP"]) > untrained["MR-full-mAP"] + 50
    shown = {line.split()[0]: line.split()[1] for line in stdout.splitlines() if line.strip().startswith("MR-")}
    assert float(shown["MR-full-R1@0.5"]) == float(row["MR-full-R1@0.5"])
    assert stdout.splitlines()[-1] == f"Best checkpoint: {tmp_path / 'run' / 'best'}"
    announced, *steps, validated = [line for line in stderr.splitlines() if not line.startswith("warning: ")]
    assert announced == "Training on 200 queries on 200 videos, validating on 50 queries on 50 videos"
    assert [step.partition(": epoch ")[0] for step in steps] == [f"step {25 * i} of 175" for i in range(1, 8)]
    assert validated.startswith("epoch 7: mAP ")
    assert "Traceback" not in stderr
    score = invoke("evaluate", tmp_path / "run" / "best" / "recipe.yaml", "--checkpoint", tmp_path / "run" / "best")
    assert f"{float(row['MR-full-R1@0.5']):.2f}" in score.stdout


def test_highlights_are_learned(tmp_path: Path) -> None:
    """Mean average precision on 6 unseen videos: untrained 21, after 120 steps 100."""
    data = plant_highlights(tmp_path / "data", train=30)
    settings = [*LEARNING, f"data.annotations={data}", "model.hidden=32", "training.epochs=30"]
    untrained = score_untrained("youtube-highlights/dog", settings)["mAP"]
    result = invoke(*arguments("youtube-highlights/dog", settings, tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert untrained < 40
    assert float(read_csv(tmp_path / "run" / "validation.csv")[-1]["mAP"]) > 95


def quick(data: Path, workers: int) -> list[str]:
    """Epochs of 3 steps, and a state after every second step."""
    small = [
        "model.layers=2",
        "model.hidden=8",
        "model.heads=2",
        "optimizer.warmup_steps=2",
        "optimizer.drop_epochs=[9]",
    ]
    steps = ["training.batch_size=4", "training.log_every=1", "training.checkpoint_every=2"]
    return [f"data.annotations={data}", *small, *steps, f"data.workers={workers}", "training.validate_every=4"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, workers: int) -> None:
    data = save_charades(tmp_path / "data")
    settings, run, whole = quick(data, workers), tmp_path / "run", tmp_path / "whole"
    process = start(*arguments("charades-sta", [*settings, "training.epochs=5000"], run))
    while process.poll() is None and not (run / "log.csv").exists():
        time.sleep(0.01)
    while process.poll() is None and len((run / "log.csv").read_bytes().splitlines()) < 6:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    epochs = torch.load(run / "state.pt", weights_only=True)["epoch"] + 2
    settings.append(f"training.epochs={epochs}")

    refused = invoke(*arguments("charades-sta", settings, run))
    assert refused.exit_code == 1
    message = "already holds a run; continue it with --resume, or choose another --run folder"
    assert refused.stderr == f"error: {run}: {message}\n"
    other = invoke(*arguments("charades-sta", [*settings, "optimizer.lr=1e-5"], run, "--resume"))
    assert other.exit_code == 1
    assert "belongs to another recipe (optimizer.lr was 0.00025, is 1e-05)" in other.stderr

    resumed = invoke(*arguments("charades-sta", settings, run, "--resume"))
    assert resumed.exit_code == 0, resumed.output
    assert invoke(*arguments("charades-sta", settings, whole)).exit_code == 0
    for name in ("best", "last"):
        one, two = (load_file(folder / name / "model.safetensors") for folder in (run, whole))
        assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert [int(row["step"]) for row in read_csv(run / "log.csv")] == list(range(1, 3 * epochs + 1))
    for file in ("log.csv", "validation.csv"):
        rows, expected = read_csv(run / file), read_csv(whole / file)
        assert [{**row, "waiting": ""} for row in rows] == [{**row, "waiting": ""} for row in expected]


@contextmanager
def interrupted_when(there: Callable[[], bool]) -> Iterator[None]:
    """Presses Ctrl-C for this process once something is there, however late that is, unless the block ends before."""
    over = threading.Event()

    def wait() -> None:
        while not there():
            if over.wait(0.001):
                return
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_ctrl_c_saves_the_state_and_says_how_to_go_on(tmp_path: Path) -> None:
    settings = [*quick(save_charades(tmp_path / "data"), 0), "training.epochs=3000"]
    run = tmp_path / "run"
    with interrupted_when(lambda: (run / "log.csv").exists() and len((run / "log.csv").read_bytes()) > 200):
        result = invoke(*arguments("charades-sta", settings, run))
    assert (result.exit_code, result.stdout) == (130, "")
    lines = [line for line in result.stderr.splitlines() if not line.startswith("epoch ")]
    assert lines[-1:] == [
        f"stopped; the state is saved, continue with: r2tuning train charades-sta … --run {run} --resume"
    ]
    steps = [int(row["step"]) for row in read_csv(run / "log.csv")]
    assert torch.load(run / "state.pt", weights_only=True)["step"] == steps[-1]
    shorter = [*settings, f"training.epochs={steps[-1] // 3 + 2}"]
    again = invoke(*arguments("charades-sta", shorter, run, "--resume"))
    assert again.exit_code == 0, again.stderr
    steps = [int(row["step"]) for row in read_csv(run / "log.csv")]
    assert steps == list(range(1, steps[-1] + 1))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten videos with a moment each, and a CLIP."""
    folder = tmp_path_factory.mktemp("own")
    save_tiny_clip(folder / "clip")
    (folder / "videos").mkdir()
    rows = ["video,start,end,query"]
    for index in range(10):
        write_video(folder / "videos" / f"v{index}.mp4", frames=120, fps=10, codec="mpeg4")
        rows.append(f"v{index}.mp4,{index % 5},{index % 5 + 3},a dog {index}")
    (folder / "moments.csv").write_text("\n".join(rows) + "\n")
    return folder


def own_settings(own: Path) -> list[str]:
    small = ["model.layers=2", "model.hidden=8", "model.heads=2", "data.workers=0", "training.epochs=2"]
    return [
        f"data.annotations={own / 'moments.csv'}",
        f"data.videos={own / 'videos'}",
        f"backbone={own / 'clip'}",
        *small,
    ]


def test_ctrl_c_while_features_are_made_keeps_those_that_are(own: Path, tmp_path: Path) -> None:
    store = tmp_path / "features"
    settings = [*own_settings(own), f"data.features={store}"]
    # In a process of its own: the interrupt may fall between the opening of a file and the statement that keeps it,
    # whose warning would be an error here.
    with start(*arguments("custom", settings, tmp_path / "run")) as process:
        while process.poll() is None and len(list(store.glob("videos/*.safetensors"))) < 2:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        shown, said = process.communicate()
    assert (process.returncode, shown) == (130, "")
    assert said.endswith("stopped; the features made so far are kept; run the same command again to continue\n")
    assert "Traceback" not in said
    made = {path: path.stat().st_mtime_ns for path in (store / "videos").iterdir()}
    assert 1 < len(made) < 10
    assert not [path for path in made if path.suffix != ".safetensors"]
    assert not (tmp_path / "run").exists()
    again = invoke(*arguments("custom", settings, tmp_path / "run"))
    assert again.exit_code == 0, again.output
    assert len(list((store / "videos").iterdir())) == 10
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    fewer = [*settings, "model.layers=1"]
    assert invoke(*arguments("custom", fewer, tmp_path / "fewer")).exit_code == 0
    assert FeatureStore.open(store).layers == 2
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())


def test_few_queries_are_too_few(own: Path, tmp_path: Path) -> None:
    result = invoke(*arguments("custom", [*own_settings(own), "training.epochs=1"], tmp_path / "run"))
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    (said,) = (line for line in lines if line.startswith("Training on "))
    counts = [int(number) for number in re.findall(r"(\d+) queries on \1 videos", said)]
    assert sum(counts) == 10
    assert [line for line in lines if line.startswith("warning: ")] == [
        f"warning: {count} {'query is' if count == 1 else 'queries are'} few to {purpose} on, so scores will say "
        "little; give 20 or more"
        for count, purpose in zip(counts, ("train", "validate"), strict=True)
    ]


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_warnings_are_said_by_one_process(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Each process of a training on several GPUs runs the same command."""
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv(variable, rank)
        shown = io.StringIO()
        with contextlib.redirect_stderr(shown):
            _show_warning(R2TuningWarning("few"), R2TuningWarning, "a.py", 1)
            _show_warning(FutureWarning("old"), FutureWarning, "a.py", 1)
        said.append(shown.getvalue())
    assert said[0].startswith("warning: few\na.py:1: ")
    assert said[1] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.annotations=none.csv", "error: none.csv: "),
        ("data.videos=none", "error: none: no such folder; give the folder of the videos"),
        ("backbone=./none", "error: ./none: no such folder, and no backbone of that name"),
        ("optimizer.lrate=1", "error: custom: unknown key optimizer.lrate; did you mean optimizer.lr?"),
        ("training.start_from=qvhighlight", "error: qvhighlight: neither a file, a folder nor a published model; did "),
    ],
)
def test_mistakes_are_one_line(own: Path, tmp_path: Path, change: str, message: str) -> None:
    settings = [*own_settings(own), f"data.features={tmp_path / 'features'}", change]
    result = invoke(*arguments("custom", settings, tmp_path / "run"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_own_data_that_cannot_be_used_is_named(own: Path, tmp_path: Path) -> None:
    rows = (own / "moments.csv").read_text()
    (tmp_path / "late.csv").write_text(rows + "v3.mp4,90,95,a cat\n")
    features = f"data.features={tmp_path / 'features'}"
    late = [*own_settings(own), features, f"data.annotations={tmp_path / 'late.csv'}"]
    result = invoke(*arguments("custom", late, tmp_path / "run"))
    assert result.exit_code == 1
    start = (
        f"error: {tmp_path / 'late.csv'}:{rows.count(chr(10)) + 1}: moment 1: [90, 95] s lies outside a video of 12 s"
    )
    assert result.stderr.startswith(start)

    (tmp_path / "videos").mkdir()
    for path in (own / "videos").iterdir():
        (tmp_path / "videos" / path.name).symlink_to(path)
    (tmp_path / "videos" / "v4.mp4").unlink()
    (tmp_path / "videos" / "v4.mp4").write_text("no video")
    damaged = [*own_settings(own), features, f"data.videos={tmp_path / 'videos'}"]
    result = invoke(*arguments("custom", damaged, tmp_path / "run"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: v4.mp4: ")
    assert "replace them, or remove them from" in result.stderr

    # Features are there now; without the videos they must fit what the recipe says.
    there = [*own_settings(own), features, "data.videos=null"]
    result = invoke(*arguments("custom", [*there, "fps=2"], tmp_path / "run"))
    assert result.stderr.count("\n") == 1
    assert "has features of 1 frames per second; set fps=1, or set data.videos to the folder" in result.stderr
    result = invoke(*arguments("custom", [*there, "backbone=ViT-B/16"], tmp_path / "run"))
    assert f"has features of {own / 'clip'}, but the recipe names ViT-B/16" in result.stderr
    assert not (tmp_path / "run").exists()
