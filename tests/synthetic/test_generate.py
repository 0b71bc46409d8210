"""A folder of videos is complete, the same with any number of processes, and continued after an interruption."""

import json
from pathlib import Path

import pytest

from r2tuning.datasets import find_benchmark, load_annotations
from r2tuning.errors import OutputError
from r2tuning.synthetic import describe_absent, make_video, synthesize
from r2tuning.synthetic.generate import MOST_PER_SEED, draw_preview
from r2tuning.synthetic.queries import choose_queries

# Its first two videos of the validation split are 80 s long together: the least of 400 seeds.
SEED = 400


@pytest.fixture(scope="module")
def seed() -> int:
    first, second = (make_video(SEED * MOST_PER_SEED + number, "val") for number in range(2))
    assert first.duration + second.duration == 80  # or the world has changed: look for another short seed
    return SEED


@pytest.fixture(scope="module")
def folder(seed: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "made" / "here"
    seen = []
    done = synthesize(folder, 2, seed=seed, split="val", jobs=2, progress=lambda *state: seen.append(state))
    assert (done.videos, done.kept) == (2, 0)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_in_the_folder(folder: Path, seed: int) -> None:
    first = make_video(seed * MOST_PER_SEED, "val")
    names = [f"videos/val-{seed * MOST_PER_SEED + number:07d}.mp4" for number in range(2)]
    assert set(contents(folder)) == {*names, "val.jsonl", "val_absent.jsonl", "val_preview.png"}
    annotations = load_annotations(folder / "val.jsonl", find_benchmark("qvhighlights"))
    assert {f"videos/{annotation.vid}.mp4" for annotation in annotations} == set(names)
    assert all(annotation.moments and annotation.saliency is not None for annotation in annotations)
    absent = [json.loads(line) for line in (folder / "val_absent.jsonl").read_text().splitlines()]
    assert [entry["query"] for entry in absent if entry["vid"] == first.vid] == [
        a.query for a in describe_absent(first)
    ]
    assert all(entry["relevant_windows"] == entry["relevant_clip_ids"] == [] for entry in absent)
    assert (folder / "val_preview.png").read_bytes().startswith(b"\x89PNG")


def test_one_process_makes_the_same_bytes_and_goes_on(folder: Path, seed: int, tmp_path: Path) -> None:
    assert synthesize(tmp_path, 1, seed=seed, split="val").videos == 1
    (first,) = (tmp_path / "videos").iterdir()
    made = first.stat().st_mtime_ns
    done = synthesize(tmp_path, 2, seed=seed, split="val")  # as after an interruption, or to add to it
    assert (done.videos, done.kept) == (1, 1)
    assert first.stat().st_mtime_ns == made
    assert contents(tmp_path) == contents(folder)


def test_a_damaged_video_is_made_again(folder: Path, seed: int, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for index, path in enumerate(sorted((folder / "videos").iterdir())):
        data = path.read_bytes()
        (tmp_path / "videos" / path.name).write_bytes(data[: len(data) // 2] if index else data)
    done = synthesize(tmp_path, 2, seed=seed, split="val")
    assert (done.videos, done.kept) == (1, 1)
    assert contents(tmp_path) == contents(folder)


def test_annotations_of_other_videos_are_not_replaced(folder: Path, seed: int) -> None:
    before = contents(folder)
    with pytest.raises(OutputError, match=r"val\.jsonl has 2 other videos, such as val-\d+; .*--force"):
        synthesize(folder, 1, seed=seed + 1, split="val")
    with pytest.raises(OutputError, match="has 1 other videos"):
        synthesize(folder, 1, seed=seed, split="val")
    assert contents(folder) == before


def test_what_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "val.jsonl").write_text("no JSON")
    with pytest.raises(OutputError, match=r"val\.jsonl is not an annotation file"):
        synthesize(tmp_path, 1, split="val")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be created"):
        synthesize(tmp_path / "file", 1)
    for wrong in ({"videos": 0}, {"videos": MOST_PER_SEED + 1}, {"videos": 1, "seed": -1}, {"videos": 1, "jobs": 0}):
        with pytest.raises(ValueError, match="must be"):
            synthesize(tmp_path, **wrong)


def test_a_sheet_of_nothing_is_blank() -> None:
    """A rare video of the test split has no queries, and may be the only one."""
    assert choose_queries(make_video(37, "test")) == []
    assert draw_preview([]).startswith(b"\x89PNG")
