"""``r2tuning plot`` and ``r2tuning attention`` as a user runs them."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.grounders import save_tiny_model
from support.groundings import make_grounding
from support.videos import write_video
from typer.testing import CliRunner, Result

from r2tuning.cli.main import app
from r2tuning.output.text.json import to_json


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(result: Result, code: int, *parts: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    for part in parts:
        assert part in " ".join(result.stderr.split())
    if code == 1:
        assert len(result.stderr.strip().splitlines()) == 1


def texts(path: Path) -> set[str]:
    return {"".join(n.itertext()) for n in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")}


def save_answers(path: Path, *queries: str, **changes: object) -> Path:
    answers = [make_grounding(query=query, **changes) for query in queries or ("a dog",)]
    path.write_text(to_json(answers), encoding="utf-8")
    return path


def test_answers_of_two_models_with_the_truth(tmp_path: Path) -> None:
    one = save_answers(tmp_path / "one.json", "a dog", "a cat", model="first")
    two = save_answers(tmp_path / "two.json", "a cat", model="second")
    truth = tmp_path / "truth.csv"
    truth.write_text("video,start,end,query\nclips/trip.mp4,2,6,a cat\nclips/other.mp4,1,9,a cat\n")
    result = invoke("plot", one, two, "--query", "a cat", "--truth", truth, "-o", tmp_path / "p.svg")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert {"a cat", "trip.mp4", "first", "second", "true moment"} <= texts(tmp_path / "p.svg")
    refused(invoke("plot", one, two, "-o", tmp_path / "p.svg"), 1, "p.svg exists", "--force")
    refused(invoke("plot", one, two, "-o", tmp_path / "q.svg"), 1, "one.json: has 2 answers", "--query")
    refused(invoke("plot", two, "--query", "a cow", "-o", tmp_path / "q.svg"), 1, "no answer to 'a cow'", "'a cat'")
    line = {"qid": 1, "vid": "elsewhere", "query": "a cat", "duration": 70, "relevant_windows": [[2, 6]]}
    (tmp_path / "truth.jsonl").write_text(json.dumps(line) + "\n")
    result = invoke("plot", two, "--truth", tmp_path / "truth.jsonl", "-o", tmp_path / "q.svg")
    assert result.exit_code == 0, result.output
    assert "of the video elsewhere" in result.stderr
    (tmp_path / "truth.csv").write_text("video,start,end,query\na.mp4,2,6,a cat\nb.mp4,1,9,a cat\n")
    refused(invoke("plot", two, "--truth", truth, "-o", tmp_path / "r.svg"), 1, "truth.csv: 2 annotations")


def test_models_of_one_name_are_told_apart_by_their_files(tmp_path: Path) -> None:
    files = [save_answers(tmp_path / f"{name}.json") for name in ("old", "new")]
    assert invoke("plot", *files, "-o", tmp_path / "p.svg").exit_code == 0
    assert {"demo (old)", "demo (new)"} <= texts(tmp_path / "p.svg")


def test_answers_about_different_things_are_refused(tmp_path: Path) -> None:
    one = save_answers(tmp_path / "one.json")
    cat = save_answers(tmp_path / "cat.json", "a cat")
    other = save_answers(tmp_path / "other.json", video="other.mp4")
    refused(invoke("plot", one, cat, "-o", tmp_path / "p.png"), 1, "cat.json: its query is 'a cat'")
    refused(invoke("plot", one, other, "-o", tmp_path / "p.png"), 1, "other.json: its video is 'other.mp4'")
    refused(invoke("plot", tmp_path / "no.json", "-o", tmp_path / "p.png"), 1, "no.json: cannot be read")
    refused(invoke("plot", one, "-o", tmp_path / "p.bmp"), 1, "p.bmp", ".png")
    refused(invoke("plot", *[one] * 7, "-o", tmp_path / "p.png"), 1, "at most 6")
    refused(invoke("plot", one), 2, "--output")


def make_run(folder: Path, scores: bool = True) -> Path:
    folder.mkdir()
    (folder / "log.csv").write_text(
        "step,epoch,lr,total,offset,waiting\n10,0,1e-4,2.5,1.0,0.1\n20,0,1e-4,2.0,,0.1\n30,"
    )
    if scores:
        (folder / "validation.csv").write_text("step,epoch,MR-full-mAP,MR-full-R5@0.5\n20,0,31.25,60\n")
    return folder


def test_curves_of_runs(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", scores=False)]
    result = invoke("plot", *runs, "-o", tmp_path / "p.svg")
    assert result.exit_code == 0, result.output
    shown = texts(tmp_path / "p.svg")
    assert {"total", "offset", "mAP", "best 31.25"} <= shown
    assert not {"lr", "waiting", "MR-full-R5@0.5"} & shown
    (tmp_path / "empty").mkdir()
    refused(invoke("plot", tmp_path / "empty", "-o", tmp_path / "q.png"), 1, "empty: holds no log.csv")
    refused(invoke("plot", runs[0], save_answers(tmp_path / "a.json"), "-o", tmp_path / "q.png"), 1, "one table")
    refused(invoke("plot", runs[0], "--query", "a dog", "-o", tmp_path / "q.png"), 2, "--query")
    (tmp_path / "empty" / "log.csv").write_text("step,epoch,lr,total\n")
    refused(invoke("plot", tmp_path / "empty", "-o", tmp_path / "q.png"), 1, "nothing is logged yet")


def test_scores_of_an_ablation(tmp_path: Path) -> None:
    cells = [
        {"settings": {"model.layers": k}, "metrics": {"MR-full-mAP": {"mean": 40.0 + int(k), "deviation": 0.5}}}
        for k in ("1", "2")
    ]
    (tmp_path / "table.json").write_text(json.dumps({"cells": cells, "failed": [], "left": 0}))
    for source, name in ((tmp_path, "p.svg"), (tmp_path / "table.json", "q.svg")):
        assert invoke("plot", source, "-o", tmp_path / name).exit_code == 0
        assert {"layers = 1", "layers = 2", "mAP (%)", "42.00 ± 0.50"} <= texts(tmp_path / name)
    (tmp_path / "table.json").write_text(json.dumps({"cells": cells, "failed": [], "left": 3}))
    refused(invoke("plot", tmp_path, "-o", tmp_path / "r.svg"), 1, "3 cells left")
    (tmp_path / "table.json").write_text("{}")
    refused(invoke("plot", tmp_path, "-o", tmp_path / "r.svg"), 1, "no table")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return save_tiny_model(folder), write_video(folder / "my 'video'.mp4", frames=120, fps=10)


def test_attention_over_the_best_moment_and_at_chosen_times(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    model, video = tiny
    result = invoke("attention", video, "the red dog", "-m", model, "-o", tmp_path / "a.svg", "--frames", 2)
    assert result.exit_code == 0, result.output
    assert {"the red dog", "red", "dog", "[end]", "Step 3: last but two"} <= texts(tmp_path / "a.svg")
    options = ["-m", model, "--at", 7.2, "--at", 3, "--words", "Dog"]
    result = invoke("attention", video, "the red dog", *options, "-o", tmp_path / "b.svg")
    assert result.exit_code == 0, result.output
    assert {"dog", "0:08", "0:04"} <= texts(tmp_path / "b.svg")  # centres of clips of 1 s
    assert "red" not in texts(tmp_path / "b.svg")
    refused(invoke("attention", video, "the red dog", *options, "-o", tmp_path / "b.svg"), 1, "b.svg exists")
    wrong = ["-m", model, "-o", tmp_path / "c.svg"]
    refused(invoke("attention", video, "a dog", *wrong, "--words", "cat"), 1, "'cat' is not a word", "a, dog, [end]")
    refused(invoke("attention", video, "a dog", *wrong, *["--at", 1] * 7), 2, "at most 6")
    refused(invoke("attention", tmp_path / "no.mp4", "a dog", *wrong), 1, "no.mp4")
