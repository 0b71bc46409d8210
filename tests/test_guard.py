"""Whatever a file says, reading it gives a result or one line, and takes no more than a file of its size may."""

import csv
import json
import math
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from support.cli import run
from support.groundings import make_grounding
from support.hub import charades_files, member, serve_hub, use_hub
from support.mutate import GROUPS, mutate
from support.small_benchmarks import make_model

from r2tuning import hub as hub_module
from r2tuning.checkpoints import load_checkpoint, load_config, save_checkpoint
from r2tuning.checkpoints.folder import take_tensors
from r2tuning.datasets import load_custom
from r2tuning.datasets.download import download_benchmark
from r2tuning.datasets.moment_retrieval import CHARADES_STA
from r2tuning.errors import (
    BackboneError,
    CheckpointError,
    DataError,
    DownloadError,
    R2TuningError,
    RecipeError,
    VideoError,
)
from r2tuning.files import guard, read_file
from r2tuning.output.text.csv import to_csv
from r2tuning.training.recipes import load_recipe

SAMPLE = {"media": 16, "model files": 14, "annotations and recipes": 20, "saved features": 10}


@pytest.mark.parametrize("group", GROUPS)
def test_damaged_files_are_read_or_refused_in_one_line(group: str, tmp_path: Path) -> None:
    """A sample of the 2,000 mutations that ``python -m support.mutate`` makes; another seed than there."""
    found = list(mutate(group, SAMPLE[group], tmp_path, seed=1))
    assert len(found) == SAMPLE[group]
    assert [one for one in found if one[1] not in ("read", "refused")] == []
    assert any(outcome == "refused" for _, outcome, _ in found)


@pytest.mark.parametrize(
    "cause",
    [
        lambda: int("x" * 10**6),
        lambda: json.loads("[" * 100_000),
        lambda: {}["key"],
        lambda: None.field,  # type: ignore[attr-defined]
        lambda: int(float("inf")),
        lambda: yaml.safe_load("? [1]\n: 2"),
        lambda: b"\xff".decode(),
        lambda: bytearray(10**18),
        lambda: Path("/no/such/file").read_bytes(),
        lambda: 1 / 0,
    ],
)
def test_whatever_a_parser_raises_becomes_one_line(cause) -> None:
    with pytest.raises(DataError) as caught, guard("a.json:3", DataError, "correct it"):
        cause()
    text = str(caught.value)
    assert text.startswith("a.json:3: ")
    assert text.endswith("; correct it")
    assert len(text) <= 300
    assert text.isprintable()


def test_an_error_quotes_what_is_hostile_on_one_harmless_line_of_300_characters() -> None:
    error = R2TuningError(f"a\x1b]0;title\x07\nb{'x' * 10**6}; do this")
    assert str(error).startswith("a\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER} bxxx")
    assert str(error).endswith("x; do this")
    assert len(str(error)) <= 300


@pytest.mark.parametrize("name", ["x" * 250, "My Videos " * 25 + "x", "deep/" * 800 + "x"])
@pytest.mark.parametrize("problem", ["no such file", "its clock restarts where none of its 3 programmes does"])
def test_what_to_do_survives_a_long_path(name: str, problem: str) -> None:
    """The longest advice of any message has 124 characters."""
    advice = (
        "; run r2tuning extract, or say where the files are with --annotations and --features (in training, --set a=b)"
    )
    message = str(VideoError(f"/home/ann/{name}.mp4: {problem}{advice}"))
    assert message.startswith("/home/ann/")
    assert message.endswith(f"x.mp4: {problem}{advice}")
    assert len(message) <= 300


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "large"])
def test_only_regular_files_of_a_sane_size_are_read(kind: str, tmp_path: Path) -> None:
    path = {"device": Path("/dev/zero"), "folder": tmp_path}.get(kind, tmp_path / "a")
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "large":
        path.write_bytes(b"x" * 11)
    words = {"device": "is no regular file", "pipe": "is no regular file", "folder": "Is a directory"}
    with pytest.raises(DataError, match=words.get(kind, "is larger than")):
        read_file(path, DataError, "check it", most=10)


@pytest.mark.parametrize("text", ["model.hidden=[[", "a.b=2001-13-45", "seed", "training.epochs=1e30", "fps=.inf"])
def test_a_setting_that_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("custom", [text])
    assert len(str(caught.value)) <= 300


def test_a_recipe_that_contains_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: x\nmodel: &a {dropout: *a}\n")
    with pytest.raises(RecipeError, match=r"r\.yaml: "):
        load_recipe(tmp_path / "r.yaml")


def test_a_model_of_a_terabyte_takes_no_memory_before_it_is_refused(tmp_path: Path) -> None:
    """16 levels of width 16384 have 120 convolutions of 2 GiB; the file has kilobytes."""
    config, model = make_model()
    save_checkpoint(tmp_path / "m", model.state_dict(), config)
    content = json.loads((tmp_path / "m" / "config.json").read_text())
    content["model"] |= {"hidden": 16384, "strides": [2**level for level in range(16)]}
    (tmp_path / "m" / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="missing '"):
        load_checkpoint(tmp_path / "m")
    for field, value in (("hidden", 10**9), ("layers", 10**6), ("strides", [2**level for level in range(64)])):
        (tmp_path / "m" / "config.json").write_text(json.dumps(content | {"model": content["model"] | {field: value}}))
        with pytest.raises(CheckpointError, match=rf"model\.{field}: "):
            load_config(tmp_path / "m")


def test_tensors_that_only_claim_their_size_are_refused() -> None:
    with pytest.raises(CheckpointError, match="not a plain float tensor: 'a'"):
        take_tensors({"a": torch.zeros(1).expand(10**6, 10**6)}, {"a": (10**6, 10**6)}, Path("a.pth"))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_an_index_names_files_of_its_folder_only(name: str, tmp_path: Path) -> None:
    from r2tuning.backbones import load_backbone
    from r2tuning.checkpoints.published import DEMO_FOLDER

    for file in (DEMO_FOLDER.parent / "clip").iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file({"a": torch.zeros(1)}, tmp_path.parent / "secret.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(BackboneError, match="which is not in this folder"):
        load_backbone(str(tmp_path), layers=2)


@pytest.mark.parametrize("query", ["=1+1", "+1", "-a dog", "@SUM(A1)", "\ta", "'=1", "\uff1d1", "a dog", "'a' dog"])
def test_a_spreadsheet_runs_nothing_and_a_model_trains_from_the_same_file(query: str, tmp_path: Path) -> None:
    answer = make_grounding(query=query, video="=v.mp4", moments=[(2.0, 6.0, 0.875)], start=-3.0)
    (tmp_path / "a.csv").write_text(to_csv([answer]), encoding="utf-8", newline="")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["query"][0] not in "=+-@\t\r\uff1d"
    (read,) = load_custom(tmp_path / "a.csv")
    assert (read.vid, read.query, read.moments) == ("=v.mp4", query.strip(), ((2.0, 6.0),))


def start(command: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell's line in which ``r2tuning`` is this package."""
    line = command.replace("r2tuning", f"{sys.executable} -m r2tuning")
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("r2tuning models > /dev/full", "error: output cannot be written: No space left on device"),
        ("r2tuning models >&-", "error: stdout is closed"),
    ],
)
def test_output_that_cannot_be_written_is_one_line_and_a_failure(command: str, words: str) -> None:
    done = start(command)
    assert done.returncode == 1
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1


def test_messages_do_not_steer_a_terminal(tmp_path: Path) -> None:
    name = "a\x1b]0;title\x07\n\x1b[31mb"
    (tmp_path / "a.csv").write_text(f'video,start,end,query\n"{name}.mp4",1,0,"a"\n')
    for arguments in (
        ("ground", name, "a dog", "-m", "demo"),
        ("train", f"{name}.yaml"),
        ("plot", name, "-o", "a.png"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert result.stderr.strip().isprintable()


@pytest.mark.parametrize("kind", ["sparse", "bomb"])
def test_archives_that_claim_more_than_was_announced_are_refused(kind: str, tmp_path: Path, monkeypatch) -> None:
    from support.hub import FOLDER, VIDEO_ARCHIVE, make_archive

    array = np.zeros(10**7, np.float16)  # 20 MB of zeros are 20 kB in an archive
    files = {"clip_b32_vid_k4/a.npy": array.tobytes()} if kind == "bomb" else {"clip_b32_vid_k4/a.npy": b"x"}
    others = [member("b.npy", tarfile.GNUTYPE_SPARSE)] if kind == "sparse" else []
    served = charades_files() | {FOLDER + VIDEO_ARCHIVE: make_archive(files, others)}
    served = {name: body for name, body in served.items() if not name.startswith(f"{FOLDER}{VIDEO_ARCHIVE}.")}
    with serve_hub(served) as hub:
        use_hub(monkeypatch, hub.url)
        with pytest.raises(DataError, match="sparse file" if kind == "sparse" else "far more than was announced"):
            download_benchmark(CHARADES_STA, tmp_path / "d")
    assert not (tmp_path / "d" / "clip_b32_vid_k4").exists()


def test_a_download_that_only_trickles_is_given_up(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "WINDOW", 0.5)
    with serve_hub(charades_files()) as hub:
        use_hub(monkeypatch, hub.url)
        hub.trickle = True
        with pytest.raises(DownloadError, match=r"bytes in 0\.5 s"):
            download_benchmark(CHARADES_STA, tmp_path / "d", annotations_only=True)


def test_numbers_of_an_answer_are_sensible(tmp_path: Path) -> None:
    from r2tuning.results import Grounding

    for field, value in (("duration", math.inf), ("start", 1e300), ("sampling", "x"), ("moments", [{"start": "nan"}])):
        with pytest.raises(DataError, match="not an answer"):
            Grounding.from_dict(make_grounding().to_dict() | {field: value})
