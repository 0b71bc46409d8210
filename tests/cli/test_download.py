"""``r2tuning download`` as a user runs it: what it says, where it puts things, how it fails."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.cli import run
from support.hub import FOLDER, Hub, charades_files, serve_hub, use_hub
from typer.testing import CliRunner

from r2tuning.cli.main import app
from r2tuning.datasets import BENCHMARKS


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub(charades_files()) as hub:
        use_hub(monkeypatch, hub.url)
        yield hub


download = partial(run, "download")


def test_what_will_be_fetched_is_listed_and_the_folder_printed(hub: Hub, tmp_path: Path) -> None:
    result = download("charades-sta", "--to", tmp_path / "data")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'data'}\n"
    total = sum(map(len, hub.files.values()))
    assert f"6 files, {total / 1000:.1f} kB, from yeliudev/R2-Tuning on the hub:" in result.stderr
    for path, content in hub.files.items():
        assert f"{len(content) / 1000:.1f} kB  {path.removeprefix(FOLDER)}\n" in result.stderr
    assert len(list((tmp_path / "data" / "clip_b32_vid_k4").iterdir())) == 3
    assert not (tmp_path / "data" / "archives").exists()
    again = download("charades-sta", "--to", tmp_path / "data")
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert again.stderr == "Nothing to download: all files exist.\n"


def test_options(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path))
    folder = tmp_path / "datasets" / "charades-sta"
    assert download("Charades-STA", "--annotations-only").stdout == f"{folder}\n"
    assert sorted(p.name for p in folder.glob("c*")) == ["charades_test.jsonl", "charades_train.jsonl"]
    assert download("charades-sta", "--keep-archives").exit_code == 0
    assert len(list((folder / "archives").iterdir())) == 4


def test_where_the_labels_of_qvhighlights_test_are_is_said(hub: Hub, tmp_path: Path) -> None:
    folder = "yeliudev/R2-Tuning/datasets/qvhighlights/"
    hub.files |= {f"{folder}qvhighlights_{split}.jsonl": b"{}\n" for split in ("train", "val", "test")}
    result = download("qvhighlights", "--to", tmp_path, "--annotations-only")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path}\n"
    assert "moment_detr/blob/main/data/highlight_test_with_gt.jsonl" in result.stderr
    assert all("moment_detr" not in request.path for request in hub.requests)
    (tmp_path / "highlight_test_with_gt.jsonl").write_text("{}\n")
    assert "moment_detr" not in download("qvhighlights", "--to", tmp_path, "--annotations-only").stderr


def test_errors_are_one_line(hub: Hub, tmp_path: Path) -> None:
    unknown = download("charades")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr == "error: no benchmark 'charades'; did you mean charades-sta?\n"
    hub.status = 503
    unreachable = download("charades-sta", "--to", tmp_path / "data")
    assert (unreachable.exit_code, unreachable.stdout) == (1, "")
    assert unreachable.stderr.startswith("error: yeliudev/R2-Tuning: cannot be listed: ")
    assert unreachable.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_what_is_made_by_program_is_not_asked_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    result = download("moving-shapes", "--to", tmp_path / "shapes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: moving-shapes is synthetic, not downloaded; run r2tuning synthesize "
        f"{tmp_path / 'shapes'} --split train, then val and test\n"
    )
    assert hub.requests == []
    assert not (tmp_path / "shapes").exists()


def test_help_names_every_benchmark() -> None:
    shown = CliRunner().invoke(app, ["download", "--help"], env={"COLUMNS": "200"}).stdout
    for benchmark in BENCHMARKS:
        assert benchmark.name in shown
