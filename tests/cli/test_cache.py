"""``r2tuning cache``: what is listed is ours, and nothing else is ever removed."""

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import refused, run
from support.hub import put_repository, use_cache
from support.models import place_published

from r2tuning.caches import CacheEntry, find_unused, list_entries, remove_entry
from r2tuning.checkpoints.published import find_published
from r2tuning.errors import OutputError
from r2tuning.library.catalog import open_catalog
from r2tuning.processes import hold

CLIP = "openai/clip-vit-base-patch32"
DAY = 86_400


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "ours"))
    use_cache(monkeypatch, tmp_path / "hf")
    return tmp_path / "ours"


def put(path: Path, size: int, days: float = 0.0) -> Path:
    """A file that was last used some days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


@pytest.fixture
def filled(ours: Path, tmp_path: Path) -> Path:
    """One of each kind, and beside them what is not ours."""
    place_published("tvsum/BK")
    put(ours / "checkpoints" / "charades-sta-00000000" / "model.safetensors", 10, days=40)  # of an older version
    put_repository(tmp_path / "hf", CLIP, {"config.json": b"{}", "model.safetensors": bytes(1000)})
    put(ours / "engines" / "0123456789abcdef-k4-int8-v2.onnx", 2000, days=40)
    library = ours / "folders" / "0123456789abcdef"
    library.mkdir(parents=True)
    with open_catalog(library, create=True) as catalog, catalog.change():
        catalog.add_roots(["/home/ada/holidays"])
    os.utime(library, (time.time() - 3 * DAY,) * 2)
    put(ours / "libraries" / "fedcba9876543210" / "1" / "catalog.sqlite", 3000)
    put(ours / "datasets" / "charades-sta" / "charades_test.jsonl", 4000, days=400)
    for other in (
        ours / "folders" / "holidays.r2" / "catalog.sqlite",  # a library that somebody put here
        ours / "engines" / "mine.onnx",
        ours / "checkpoints" / "mine" / "model.safetensors",
        ours / "datasets" / "mine" / "a.jsonl",
        ours / "notes.txt",
        tmp_path / "hf" / "models--someone--clip" / "blobs" / "x",
        tmp_path / "hf" / "datasets--openai--clip-vit-base-patch32" / "blobs" / "x",
        tmp_path / "outside" / "film.mp4",
    ):
        put(other, 5, days=1000)
    (ours / "folders" / "aaaaaaaaaaaaaaaa").symlink_to(tmp_path / "outside")
    return ours


def foreign(tmp_path: Path) -> set[str]:
    return {
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == 5
    }


def test_the_list_names_each_with_its_size_and_last_use(filled: Path, tmp_path: Path) -> None:
    for _ in range(2):  # to look is no use
        entries = json.loads(run("cache", "list", "--json").stdout)
        assert [(entry["kind"], entry["name"]) for entry in entries] == [
            ("model", "charades-sta-00000000"),
            ("model", "tvsum/BK"),
            ("backbone", "ViT-B/32"),
            ("int8", "0123456789abcdef-k4-int8-v2"),
            ("library", "0123456789abcdef"),
            ("catalog", "fedcba9876543210"),
            ("dataset", "charades-sta"),
        ]
        by_kind = {entry["kind"]: entry for entry in entries}
        assert [entry["content"] for entry in entries[::4]] == ["outdated", "videos of /home/ada/holidays"]
        assert by_kind["backbone"]["size"] == 1002 + 40  # and the name of the commit
        assert by_kind["int8"]["size"] == 2000
        assert by_kind["int8"]["path"] == str(filled / "engines" / "0123456789abcdef-k4-int8-v2.onnx")
        ages = {kind: (time.time() - entry["used"]) / DAY for kind, entry in by_kind.items()}
        assert ages["int8"] == pytest.approx(40, abs=0.1)
        assert ages["library"] == pytest.approx(3, abs=0.1)
    shown = run("cache", "list").stdout
    assert shown.startswith("7 items, ")
    assert "40 days ago" in " ".join(shown.split())


def test_sizes_add_up(filled: Path, tmp_path: Path) -> None:
    found = json.loads(run("cache", "size", "--json").stdout)
    assert found["bytes"] | {"model": 0, "library": 0} == {
        "model": 0, "backbone": 1042, "int8": 2000, "library": 0, "catalog": 3000, "dataset": 4000,
    }  # fmt: skip
    assert sum(found["bytes"].values()) == sum(entry.size for entry in list_entries())
    assert set(found["free"]) == {str(filled), str(tmp_path / "hf")}
    shown = run("cache", "size").stdout
    assert f"{filled}: " in shown
    assert ["int8", "1", "2.0", "kB"] in [line.split() for line in shown.splitlines()]


def test_names_are_removed_and_nothing_else(filled: Path, tmp_path: Path) -> None:
    others = foreign(tmp_path)
    assert len(others) == 8
    done = run("cache", "remove", "vit-b/32", "model:TVSUM/bk", "0123456789abcdef", "--yes")
    assert done.exit_code == 0, done.output
    assert done.stderr.endswith("B.\n")
    assert "Removed 3 items, " in done.stderr
    assert not find_published("tvsum/BK").cached_folder.exists()
    left = [entry.full_name for entry in list_entries()]
    assert left == [
        "model:charades-sta-00000000",
        "int8:0123456789abcdef-k4-int8-v2",
        "catalog:fedcba9876543210",
        "dataset:charades-sta",
    ]
    assert run("cache", "remove", "--all", "-y").exit_code == 0
    assert [entry.full_name for entry in list_entries()] == ["dataset:charades-sta"]
    assert run("cache", "remove", "charades-sta", "-y").exit_code == 0
    assert list_entries() == []
    assert foreign(tmp_path) == others
    assert list(tmp_path.rglob("*.part")) == []
    assert run("cache", "remove", "--all").stderr == "Nothing to remove.\n"


def test_what_was_not_used_for_long_is_removed(filled: Path) -> None:
    assert run("cache", "remove", "--unused-for", 30, "--yes").exit_code == 0
    left = [entry.full_name for entry in list_entries()]
    assert "int8:0123456789abcdef-k4-int8-v2" not in left
    assert "model:charades-sta-00000000" not in left
    assert {"model:tvsum/BK", "library:0123456789abcdef", "dataset:charades-sta"} <= set(left)


def test_a_name_of_two_things_is_refused(filled: Path) -> None:
    place_published("charades-sta")
    refused(
        run("cache", "remove", "charades-sta", "--yes"),
        1,
        "charades-sta: several cached things have that name; write model:charades-sta or dataset:charades-sta",
    )
    refused(run("cache", "remove", "ViT-L/14", "--yes"), 1, "ViT-L/14: nothing of that name is cached; r2tuning cache")
    refused(run("cache", "remove"), 2, "give names, or --all, or --unused-for DAYS")
    refused(run("cache", "remove", "ViT-B/32", "--all"), 2, "give names, or --all, or --unused-for DAYS")
    assert len(list_entries()) == 8


def test_nothing_is_removed_without_a_yes(filled: Path) -> None:
    done = run("cache", "remove", "--all")
    assert done.exit_code == 1
    assert done.stderr.endswith("error: 6 items to remove: confirm with --yes, since no terminal can be asked\n")
    assert len(list_entries()) == 7


def test_a_library_that_is_written_stays(filled: Path) -> None:
    library = filled / "folders" / "0123456789abcdef"
    with hold(library, OutputError):
        done = run("cache", "remove", "library:0123456789abcdef", "int8:0123456789abcdef-k4-int8-v2", "--yes")
    assert done.exit_code == 1
    assert "is being written by process" in done.stderr
    assert done.stderr.endswith("error: 1 of 2 items could not be removed, as listed above\n")
    assert library.is_dir()
    assert not (filled / "engines" / "0123456789abcdef-k4-int8-v2.onnx").exists()


def test_a_link_is_not_followed(filled: Path, tmp_path: Path) -> None:
    (entry,) = [entry for entry in list_entries() if entry.kind == "library"]
    moved = entry.path.rename(tmp_path / "moved")
    entry.path.symlink_to(moved)
    assert "library" not in [entry.kind for entry in list_entries()]
    (filled / "engines").rename(tmp_path / "engines")
    (filled / "engines").symlink_to(tmp_path / "engines")
    assert "int8" not in [entry.kind for entry in list_entries()]


def test_what_another_run_removed_is_no_error(filled: Path) -> None:
    for entry in list_entries():
        remove_entry(entry)
        remove_entry(entry)
    assert list_entries() == []


@given(ages=st.lists(st.floats(0, 100)), days=st.floats(0, 100))
def test_every_entry_is_either_old_or_kept(ages: list[float], days: float) -> None:
    now = time.time()
    entries = [CacheEntry("model", str(n), Path(), "", 1, now - age * DAY) for n, age in enumerate(ages)]
    chosen = find_unused(entries, days)
    for entry, age in zip(entries, ages, strict=True):
        if abs(age - days) > 0.01:
            assert (entry in chosen) == (age > days)
    assert find_unused(entries, 0) == entries
