"""``r2tuning ablate`` as a user runs it: the table, the files, going on, and failing."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from support.models import save_tiny_clip
from support.planted import TINY, plant_charades
from support.videos import write_video
from typer.testing import CliRunner, Result

from r2tuning.ablation.table import Ablation, Cell, CellResult, format_markdown, summarize_runs, tabulate
from r2tuning.cli.main import app
from r2tuning.features.store import FeatureStore


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_charades(tmp_path_factory.mktemp("planted"), train=16, test=4)


def arguments(data: Path, run: Path, *more: str, epochs: int = 1) -> list[str]:
    settings = [*TINY, f"training.epochs={epochs}", f"data.annotations={data}"]
    return [
        "ablate",
        "charades-sta",
        *(part for each in settings for part in ("--set", each)),
        "--run",
        str(run),
        *more,
    ]


def ablate(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "120"})


def test_table_files_and_going_on(data: Path, tmp_path: Path) -> None:
    grid = ["--vary", "model.layers=1,2", "--vary", "losses.recipe=released,paper", "--seeds", "2"]
    command = arguments(data, tmp_path / "run", *grid)
    result = ablate(*command, "--json", str(tmp_path / "copy.json"))
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "run" / "table.json").read_text())
    assert content == json.loads((tmp_path / "copy.json").read_text())
    assert (content["recipe"], content["seeds"], content["failed"], content["left"]) == ("charades-sta", [0, 1], [], 0)
    settings = [tuple(cell["settings"].values()) for cell in content["cells"]]
    assert settings == [("1", "released"), ("1", "paper"), ("2", "released"), ("2", "paper")]

    shown = [line.split() for line in result.stdout.splitlines()]
    assert " ".join(shown[0]) == "charades-sta: 4 of 4 cells, 2 seeds, mean ± standard deviation, percent"
    assert ["layers", "recipe", "R1@0.3", "R1@0.5", "R1@0.7", "mAP", "mIoU"] in shown
    markdown = (tmp_path / "run" / "table.md").read_text(encoding="utf-8").splitlines()
    assert markdown[2] == "| layers | recipe | R1@0.3 | R1@0.5 | R1@0.7 | mAP | mIoU |"
    for cell in content["cells"]:
        runs = [run["MR-full-mIoU"] for run in cell["runs"]]
        mean, deviation = sum(runs) / 2, abs(runs[0] - runs[1]) / 2**0.5  # of two numbers
        assert cell["metrics"]["MR-full-mIoU"] == pytest.approx({"mean": mean, "deviation": deviation}, abs=1e-9)
        layers, losses = cell["settings"].values()
        text = f"{mean:.2f} ± {deviation:.2f}"
        (row,) = [words for words in shown if words[:2] == [layers, losses]]
        assert " ".join(row).endswith(text)
        (line,) = [line for line in markdown if line.startswith(f"| {layers} | {losses} |")]
        assert line.endswith(f" {text} |")
        assert (tmp_path / "run" / cell["folder"] / "seed-1" / "best" / "config.json").is_file()
    assert result.stderr.count("seed 1, step 2 of 2: mAP ") == 4

    again = ablate(*command, "--json", "-")
    assert (again.exit_code, json.loads(again.stdout)) == (0, content)
    assert "step" not in again.stderr  # nothing was trained

    narrow = CliRunner().invoke(app, command, env={"COLUMNS": "80"}).stdout.splitlines()
    assert max(map(len, narrow[1:])) <= 80
    assert sum(line.split()[:1] == ["±"] for line in narrow) == 4


def test_a_cell_that_fails_is_listed_last(data: Path, tmp_path: Path) -> None:
    result = ablate(*arguments(data, tmp_path, "--vary", "model.layers=3,1", "--seeds", "1"))
    assert result.exit_code == 1
    assert "1 of 2 cells, 1 seed, percent" in result.stdout
    assert "features have 2 layers" not in result.stdout
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: model.layers=3: ")
    assert "features have 2 layers, the recipe needs 3" in line
    markdown = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "\nFailed: model.layers=3: " in markdown
    assert "\n| 1 | " in markdown


def test_paper_refinement_takes_the_layers_that_there_are(data: Path, tmp_path: Path) -> None:
    result = ablate(*arguments(data, tmp_path, "--paper", "refinement", "--seeds", "1"))
    assert result.exit_code == 0, result.output
    rows = [tuple(line.split()[:2]) for line in result.stdout.splitlines()]
    expected = [("reversed", "1"), ("reversed", "2"), ("forward", "2"), ("mean", "2"), ("single", "2")]
    assert [row for row in rows if row in expected] == expected


def test_paper_lengths_has_the_bins_as_columns(data: Path, tmp_path: Path) -> None:
    result = ablate(*arguments(data, tmp_path, "--paper", "lengths", "--seeds", "1"))
    assert result.exit_code == 0, result.output
    assert ["recipe", "1-10", "words"] in [line.split() for line in result.stdout.splitlines()]


def test_own_videos_are_encoded_once_for_the_deepest_cell(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a", "b", "c"):
        write_video(tmp_path / "videos" / f"{name}.mp4", frames=60, fps=10, codec="mpeg4")
    rows = "".join(f"{name}.mp4,{start},{start + 3},a dog\n" for start, name in enumerate("abc"))
    (tmp_path / "moments.csv").write_text(f"video,start,end,query\n{rows}")
    clip = save_tiny_clip(tmp_path / "clip")
    settings = [*TINY, "training.epochs=1", f"backbone={clip}"]
    settings += [f"data.annotations={tmp_path / 'moments.csv'}", f"data.videos={tmp_path / 'videos'}"]
    chosen = [part for each in settings for part in ("--set", each)]
    grid = ["--vary", "model.layers=1,3", "--seeds", "1", "--run", str(tmp_path / "run")]
    result = ablate("ablate", "custom", *chosen, *grid)
    assert result.exit_code == 0, result.output
    assert "custom: 2 of 2 cells" in result.stdout
    store = FeatureStore.open(tmp_path / "moments.features")
    assert (store.layers, store.frames("a.mp4")) == (3, 6)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ([], 2, "say what to compare"),
        (["--vary", "model.layers"], 1, "error: --vary model.layers: write KEY=V1,V2,"),
        (["--vary", "model.layer=1,2"], 1, "unknown key model.layer"),
        (["--paper", "table 5"], 2, "--paper"),
        (["--paper", "refinement", "--vary", "model.layers=1,2"], 1, "error: model.layers: is varied twice"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    data: Path, tmp_path: Path, more: list[str], code: int, message: str
) -> None:
    result = ablate(*arguments(data, tmp_path / "run", *more))
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_ctrl_c_stops_after_saving(data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "model.layers=1" / "seed-0" / "best" / "config.json"

    over = threading.Event()

    def press() -> None:  # amid the first cell, whose training takes signals, however late that is
        while not kept.exists():
            if over.wait(0.1):
                return
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        command = arguments(data, tmp_path, "--vary", "model.layers=1,2", "--seeds", "1", epochs=5000)
        result = ablate(*command, "--json", str(tmp_path / "table-of-all.json"))
    finally:
        over.set()
        presser.join()
    assert result.exit_code == 130, result.output
    assert "0 of 2 cells" in result.stdout
    assert result.stderr.endswith("stopped with 2 cells left; run the same command again to continue\n")
    assert (tmp_path / "model.layers=1" / "seed-0" / "state.pt").is_file()
    assert not (tmp_path / "model.layers=2").exists()
    assert not (tmp_path / "table-of-all.json").exists()


def test_metrics_of_some_cells_only_leave_a_dash() -> None:
    results = tuple(
        CellResult(Cell((("a.x", x), ("b.x", b))), summarize_runs([run]))
        for x, b, run in (
            ("1", "p|q", {"MR-full-mAP": 50.0, "HL-min-VeryGood-Hit1": 60.0}),
            ("2", "[red]", {"MR-full-mAP": 51.0, "MR-short-mAP": 1.0}),
        )
    )
    ablation = Ablation(results, ((Cell((("a.x", "3"), ("b.x", "r"))), "no data"),), 1)
    headings, rows = tabulate(ablation, "mine")
    assert headings == ["a.x", "b.x", "mAP", "Hit@1"]
    assert rows == [["1", "p|q", "50.00", "60.00"], ["2", "[red]", "51.00", "-"]]
    assert format_markdown(ablation, "mine", 1) == (
        "mine: 2 of 4 cells, 1 seed, percent\n\n"
        "| a.x | b.x | mAP | Hit@1 |\n| --- | --- | ---: | ---: |\n"
        "| 1 | p\\|q | 50.00 | 60.00 |\n| 2 | [red] | 51.00 | - |\n\n"
        "Failed: a.x=3, b.x=r: no data\n"
    )
