"""``r2tuning ground`` as a user runs it: what it prints, what it writes, what it refuses."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from PIL import Image
from support.cli import refused, run

ground = partial(run, "ground")


def test_a_table_for_people(model: Path, video: Path) -> None:
    result = ground(video, "a dog", "a cat", "--model", model, "--top-k", 3, "--overlapping")
    assert result.exit_code == 0, result.output
    assert "Query: a dog" in result.stdout
    assert "Query: a cat" in result.stdout
    assert "0:12.0" in result.stdout
    rows = [line for line in result.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [int(row.split()[0]) for row in rows] == [1, 2, 3, 1, 2, 3]


def test_json_on_stdout_and_nothing_else(model: Path, video: Path) -> None:
    result = ground(video, "a dog", "a cat", "--model", model, "--json", "-")
    assert result.exit_code == 0, result.output
    answers = json.loads(result.stdout)
    assert [answer["query"] for answer in answers] == ["a dog", "a cat"]
    assert all(len(answer["moments"]) <= 5 and len(answer["saliency"]["scores"]) == 12 for answer in answers)


def test_files(model: Path, video: Path, tmp_path: Path) -> None:
    out = [tmp_path / name for name in ("a.json", "a.png", "a.safetensors")]
    options = ["--model", model, "-o", out[0], "-o", out[1], "--save-features", out[2]]
    result = ground(video, "a dog", *options)
    assert result.exit_code == 0, result.output
    assert "Query: a dog" in result.stdout
    answer = json.loads(out[0].read_text())
    with Image.open(out[1]) as picture:
        assert picture.width >= 1000
    again = ground(out[2], "a dog", "--model", model, "--json", "-")
    assert json.loads(again.stdout) == answer
    refused(ground(video, "a dog", *options), 1, "a.safetensors exists", "--force")
    assert ground(video, "a dog", *options, "--force").exit_code == 0
    assert sorted(tmp_path.iterdir()) == sorted(out)


def test_one_plot_for_each_query(model: Path, video: Path, tmp_path: Path) -> None:
    result = ground(video, "a dog", "a cat", "--model", model, "-o", tmp_path / "p.svg")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p-1.svg", "p-2.svg"]


def test_options_reach_the_result(model: Path, video: Path) -> None:
    result = ground(video, "a dog", "--model", model, "--fps", 2, "--sampling", "keyframe", "--top-k", 1, "--json", "-")
    (answer,) = json.loads(result.stdout)
    assert answer["sampling"] == "keyframe"
    assert len(answer["saliency"]["times"]) == 24
    assert len(answer["moments"]) == 1
    best = answer["moments"][0]["score"]
    result = ground(video, "a dog", "--model", model, "--fps", 2, "--threshold", min(1, best + 0.01), "--json", "-")
    assert all(moment["score"] > best for moment in json.loads(result.stdout)[0]["moments"])


def test_python_dash_m_and_errors_as_exit_codes(model: Path, video: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "r2tuning", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = run("ground", video, "a dog", "--model", model, "--json", "-")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)[0]["query"] == "a dog"
    bad = run("ground", tmp_path / "no.mp4", "a dog", "--model", model)
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: ")
    assert len(bad.stderr.splitlines()) == 1


def test_what_cannot_work_is_refused_in_one_line(model: Path, video: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video at all\n" * 50)
    refused(ground(tmp_path / "no.mp4", "a dog", "--model", model), 1, "no.mp4")
    (tmp_path / "empty").mkdir()
    refused(ground(tmp_path / "empty", "a dog", "--model", model), 1, f"{tmp_path / 'empty'}: has no videos")
    refused(ground(text, "a dog", "--model", model), 1, "text.mp4")
    refused(ground(video, "  ", "--model", model), 1, "query is empty")
    refused(ground(video, "a dog", "--model", tmp_path / "no-model"), 1, "no-model")
    refused(ground(video, "a dog", "--model", "qvhighlight"), 1, "qvhighlights")
    refused(ground(video, "a dog", "--model", model, "--backbone", "./no-clip"), 1, "no-clip")
    refused(ground(video, "a dog", "--model", model, "--device", "gpu"), 1, "gpu: not a device")
    refused(ground(video, "a dog", "--model", model, "--device", "cuda:99"), 1, "cuda:99: PyTorch sees")
    refused(ground(video, "a dog", "--model", model, "--json", tmp_path / "no" / "a.json"), 1, "no folder")
    refused(ground(video, "a dog", "--model", model, "-o", tmp_path / "a.bmp"), 1, "a.bmp", ".png")
    refused(ground(text.with_suffix(".safetensors"), "a dog", "--model", model), 1, "text.safetensors")


def test_usage_errors_exit_with_2(model: Path, video: Path, tmp_path: Path) -> None:
    refused(ground(video), 2, "QUERY")
    refused(ground(video, "a dog", "--model", model, "--fps", 0), 2, "--fps")
    refused(ground(video, "a dog", "--model", model, "--top-k", 0), 2, "--top-k")
    refused(ground(video, "a dog", "--model", model, "--sampling", "best"), 2, "--sampling")
    refused(ground(video, "a dog", "--model", model, "--save-features", tmp_path / "a.npy"), 2, ".safetensors")
    refused(ground(video, "a dog", "--model", model, "--modle", "x"), 2, "--modle")
