"""The store: both layouts hold the same numbers, map them into memory, and refuse what is damaged or foreign."""

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.models import save_tiny_clip
from support.videos import write_video

from r2tuning.backbones import Backbone, load_backbone
from r2tuning.errors import FeatureError
from r2tuning.features import EncodedVideo, encode_video
from r2tuning.features.layouts import QUERY, find_npy_folders
from r2tuning.features.store import FeatureStore, Layout
from r2tuning.files import LONGEST, file_name

K, TOKENS, DV, DQ = 3, 17, 32, 16
LAYOUTS: list[Layout] = ["safetensors", "npy"]
TRAVERSAL = ["../escape", "/etc/passwd", "..", ".", "a/b", "a\\b", "a\0b", "x" * 1000, "é" * 300, "\ud800", "a%2Fb"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Backbone:
    return load_backbone(save_tiny_clip(folder / "clip"), layers=K)


@pytest.fixture(scope="module")
def encoded(folder: Path, clip: Backbone) -> EncodedVideo:
    return encode_video(write_video(folder / "a.mp4", frames=70, fps=10), clip, 10)


def fill(folder: Path, clip: Backbone, encoded: EncodedVideo, layout: Layout, name: str = "a") -> FeatureStore:
    store = FeatureStore.create(folder, clip, layout)
    store.save_video(name, encoded)
    (query,) = clip.encode_queries(["a dog runs"])
    store.save_query(name, query, clip)
    return store


def write_authors(folder: Path, video: np.ndarray, query: np.ndarray, tag: str = "clip_b32") -> tuple[Path, Path]:
    files = folder / f"{tag}_vid_k3" / "a.npy", folder / f"{tag}_txt_k3" / "a.npy"
    for file, array in zip(files, (video, query), strict=True):
        file.parent.mkdir(parents=True)
        np.save(file, array)
    return files


def authors_arrays(dtype: str = "<f2") -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(6, K, TOKENS, DV)).astype(dtype), random.normal(size=(5, K, DQ)).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_read_is_what_was_encoded(
    layout: Layout, tmp_path: Path, clip: Backbone, encoded: EncodedVideo
) -> None:
    written = fill(tmp_path / "s", clip, encoded, layout)
    (query,) = clip.encode_queries(["a dog runs"])
    for store in (written, FeatureStore.open(tmp_path / "s")):
        assert (store.layers, store.tokens, store.video_width, store.query_width) == (K, TOKENS, DV, DQ)
        assert torch.equal(store.video("a"), encoded.read(0, 70).transpose(0, 1))
        assert torch.equal(store.query("a"), query.values.half().transpose(0, 1))
        assert (store.frames("a"), store.has_video("a"), store.has_query("a")) == (70, True, True)
        assert (store.has_video("b"), store.has_query("b")) == (False, False)
        found = store.video_facts("a")
        assert found is not None
        assert found.model_copy(update={"relative": ""}) == encoded.facts
        facts = store.files.facts(QUERY, "a")
        assert facts is not None
        assert (facts.text, facts.truncated, facts.fingerprint) == ("a dog runs", False, clip.fingerprint)
        assert store.facts is not None
        assert (store.facts.layout, store.facts.fingerprint) == (layout, clip.fingerprint)


def test_npy_is_the_authors_layout_to_the_byte(tmp_path: Path, clip: Backbone, encoded: EncodedVideo) -> None:
    store = fill(tmp_path / "s", clip, encoded, "npy")
    assert find_npy_folders(tmp_path / "s") == [("clip", K)]
    for kind, values in (("vid", store.video("a")), ("txt", store.query("a"))):
        np.save(tmp_path / "expected.npy", values.contiguous().numpy())
        assert (tmp_path / "s" / f"clip_{kind}_k3" / "a.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4"])
def test_the_authors_features(dtype: str, tmp_path: Path) -> None:
    video, query = authors_arrays(dtype)
    write_authors(tmp_path, video, query)
    store = FeatureStore.open(tmp_path)
    assert store.facts is None
    assert store.video_facts("a") is None
    assert (store.layers, store.tokens, store.video_width, store.query_width) == (K, TOKENS, DV, DQ)
    assert store.frames("a") == 6
    assert torch.equal(store.video("a"), torch.from_numpy(video.astype("=f2")))
    assert torch.equal(store.query("a"), torch.from_numpy(query.astype("=f2")))


def test_fp32_beyond_the_range_of_fp16_does_not_become_infinite(tmp_path: Path) -> None:
    video, query = authors_arrays("<f4")
    video[0, 0, 0, 0] = 1e6
    write_authors(tmp_path, video, query)
    assert FeatureStore.open(tmp_path).video("a").max() == torch.finfo(torch.float16).max


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the mappings of a process")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_are_mapped_not_copied(layout: Layout, tmp_path: Path, clip: Backbone, encoded: EncodedVideo) -> None:
    store = fill(tmp_path / "s", clip, encoded, layout)
    (file,) = (tmp_path / "s").glob("*vid*/a.*")
    before = file.read_bytes()
    file.chmod(0o444)
    values = store.video("a")
    ranges = [
        line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if str(file) in line
    ]
    assert any(int(low, 16) <= values.data_ptr() < int(high, 16) for low, high in ranges)
    values.zero_()  # what a process writes stays in it
    assert file.read_bytes() == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_store_goes_to_a_worker_without_its_features(
    layout: Layout, tmp_path: Path, clip: Backbone, encoded: EncodedVideo
) -> None:
    store = fill(tmp_path / "s", clip, encoded, layout)
    values = store.video("a")
    sent = pickle.dumps(store)
    assert len(sent) < 4000 < values.nbytes
    assert torch.equal(pickle.loads(sent).video("a"), values)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TRAVERSAL, ids=ascii)
def test_any_name_stays_in_the_folder(
    name: str, layout: Layout, tmp_path: Path, clip: Backbone, encoded: EncodedVideo
) -> None:
    store = fill(tmp_path / "s", clip, encoded, layout, name)
    assert torch.equal(FeatureStore.open(tmp_path / "s").video(name), encoded.read(0, 70).transpose(0, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert len([path for path in (tmp_path / "s").rglob("*") if path.is_file()]) == (
        3 if layout == "safetensors" else 5
    )
    assert not store.has_video("etc")


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_different_names_are_different_files(names: list[str]) -> None:
    first, second = (file_name(name, ".npy") for name in names)
    assert first != second
    for file in (first, second):
        assert Path(file).name == file
        assert not file.startswith(".")
        assert len(file.encode()) <= LONGEST + 4


@pytest.mark.parametrize("name", ["RoripwjYFp8_60.0_210.0", "-esJrBWj2d8", "s13-d21-cam-002", "s30-d52_0", "2579"])
def test_names_of_the_benchmarks_stay_as_they_are(name: str) -> None:
    assert file_name(name, ".npy") == f"{name}.npy"


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_damaged_arrays_are_refused_in_one_line(tmp_path: Path) -> None:
    video, query = authors_arrays()
    good, other = video[:1], query[:1]
    file, query_file = write_authors(tmp_path, video, query)
    (file.parent / "0.npy").write_bytes(file.read_bytes())  # the one that shapes are taken from
    (query_file.parent / "0.npy").write_bytes(query_file.read_bytes())
    store = FeatureStore.open(tmp_path)
    whole = file.read_bytes()
    trap = tmp_path / "trap"

    def archive() -> None:
        with file.open("wb") as target:
            np.savez(target, good)

    def pickled() -> None:
        with file.open("wb") as target:
            np.save(target, np.array([Trap(trap)], dtype=object), allow_pickle=True)

    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: file.write_bytes(whole[: len(whole) // 2]), "damaged"),
        (lambda: file.write_bytes(whole[:50]), "damaged"),
        (lambda: file.write_bytes(b""), "damaged"),
        (lambda: file.write_text("no array\n" * 50), "damaged"),
        (lambda: file.write_bytes(whole.replace(b"(6, 3,", b"(6e9,3")), "damaged"),
        (lambda: file.write_bytes(whole.replace(b"(6, 3", b"((((,")), "damaged"),
        (lambda: file.write_bytes(whole.replace(b"(6, 3", b"(6,-3")), "damaged|shape"),
        (archive, "damaged"),
        (pickled, "damaged"),
        (lambda: file.write_bytes(pickle.dumps(Trap(trap))), "damaged"),
        (lambda: np.save(file, good.astype(np.int16)), "int16, not fp16 or fp32"),
        (lambda: np.save(file, good.astype(np.float64)), "float64, not fp16 or fp32"),
        (lambda: np.save(file, good[..., :-1]), r"has shape \[1, 3, 17, 31\], not \[T, 3, 17, 32\]"),
        (lambda: np.save(file, good[:, :-1]), "has shape"),
        (lambda: np.save(file, good[0]), "has shape"),
        (lambda: np.save(file, good[:0]), "has shape"),
        (file.unlink, "no such file"),
        (file.mkdir, "no such file"),
    ]
    for damage, message in cases:
        damage()
        for ask in (store.video, store.frames):
            with pytest.raises(FeatureError, match=message) as caught:
                ask("a")
            assert "\n" not in str(caught.value)
            assert str(file) in str(caught.value)
    assert not trap.exists()
    np.save(query_file, other[..., :-1])
    with pytest.raises(FeatureError, match=r"a.npy: has shape \[1, 3, 15\], not \[L, 3, 16\]"):
        store.query("a")


def test_damaged_files_of_our_own_are_refused_in_one_line(
    tmp_path: Path, clip: Backbone, encoded: EncodedVideo
) -> None:
    store = fill(tmp_path / "s", clip, encoded, "safetensors")
    for file, ask in (
        (tmp_path / "s/videos/a.safetensors", store.video),
        (tmp_path / "s/queries/a.safetensors", store.query),
    ):
        whole = file.read_bytes()
        fingerprint = clip.fingerprint.encode()
        other = whole.replace(fingerprint, b"0" * len(fingerprint))
        cases = [
            (whole[:-10], "damaged"),
            (b"", "damaged"),
            (b"no tensors" * 20, "damaged"),
            (whole.replace(b"r2tuning", b"r3tuning", 1), "not features of a"),
            (other, "not made the way the store says"),
        ]
        for content, message in cases:
            file.write_bytes(content)
            with pytest.raises(FeatureError, match=message) as caught:
                ask("a")
            assert "\n" not in str(caught.value)
            assert str(file) in str(caught.value)
        file.unlink()
        with pytest.raises(FeatureError, match=r"a\.safetensors: no such file; make it with r2tuning extract"):
            ask("a")


def test_arrays_of_ours_are_refused_without_their_facts(tmp_path: Path, clip: Backbone, encoded: EncodedVideo) -> None:
    store = fill(tmp_path / "s", clip, encoded, "npy")
    facts = tmp_path / "s" / "facts" / "videos" / "a.json"
    facts.write_text("{")
    with pytest.raises(FeatureError, match=r"a\.json: not JSON"):
        store.video("a")
    facts.unlink()  # as between the two steps of replacing an array
    with pytest.raises(FeatureError, match=r"a\.npy: was not made the way"):
        store.video("a")
    assert not store.is_current("a", Path(encoded.facts.video), 10, "exact")


def test_folders_without_features_are_refused(tmp_path: Path) -> None:
    for missing in (tmp_path / "no", tmp_path):
        with pytest.raises(FeatureError, match="holds no features; make them with r2tuning extract"):
            FeatureStore.open(missing)
    video, query = authors_arrays()
    file, _ = write_authors(tmp_path, video, query)
    write_authors(tmp_path, video, query, tag="clip_b16")
    with pytest.raises(FeatureError, match=r"several backbones \(clip_b16_vid_k3, clip_b32_vid_k3\)"):
        FeatureStore.open(tmp_path)
    for path in (tmp_path / "clip_b16_txt_k3").iterdir():
        path.unlink()
    (tmp_path / "clip_b16_txt_k3").rmdir()
    assert FeatureStore.open(tmp_path).has_video("a")
    file.unlink()
    with pytest.raises(FeatureError, match="clip_b32_vid_k3: holds no features"):
        FeatureStore.open(tmp_path)


def test_a_store_continues_only_with_the_same_clip_and_layout(
    folder: Path, tmp_path: Path, clip: Backbone, encoded: EncodedVideo
) -> None:
    fill(tmp_path / "s", clip, encoded, "safetensors")
    kept = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    other = load_backbone(save_tiny_clip(tmp_path / "other", seed=1), layers=K)
    shallow = load_backbone(folder / "clip", layers=2)
    for backbone, layout, message in (
        (other, "safetensors", "of another backbone"),
        (shallow, "safetensors", "layers 3, not 2"),
        (clip, "npy", "layout safetensors, not npy"),
    ):
        with pytest.raises(FeatureError, match=message):
            FeatureStore.create(tmp_path / "s", backbone, layout)
    (tmp_path / "moved").symlink_to(folder / "clip")
    moved = load_backbone(tmp_path / "moved", layers=K)  # the same weights in another place are the same CLIP
    assert FeatureStore.create(tmp_path / "s", moved).has_video("a")
    assert {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()} == kept


def test_a_store_does_not_mix_with_other_files(folder: Path, tmp_path: Path, clip: Backbone) -> None:
    write_authors(tmp_path / "authors", *authors_arrays())
    for layout in LAYOUTS:
        with pytest.raises(FeatureError, match="has files, but none of a store"):
            FeatureStore.create(tmp_path / "authors", clip, layout)
    (tmp_path / "file").write_text("")
    with pytest.raises(FeatureError, match="cannot be written"):
        FeatureStore.create(tmp_path / "file", clip)


def test_a_damaged_store_file_is_refused(tmp_path: Path, clip: Backbone) -> None:
    FeatureStore.create(tmp_path, clip)
    facts = json.loads((tmp_path / "store.json").read_text())
    for content, message in (
        ("{", r"store\.json: not JSON"),
        (json.dumps({**facts, "layers": 0}), "layers: is 0; input should be greater than 0"),
        (json.dumps({**facts, "codec": "int8"}), "unknown key codec"),
    ):
        (tmp_path / "store.json").write_text(content)
        with pytest.raises(FeatureError, match=message) as caught:
            FeatureStore.open(tmp_path)
        assert "\n" not in str(caught.value)


def test_features_of_an_older_preparation_are_refused(tmp_path: Path, clip: Backbone, encoded: EncodedVideo) -> None:
    store = fill(tmp_path, clip, encoded, "safetensors")
    older = EncodedVideo(
        encoded.facts.model_copy(update={"preprocess_version": 0}), encoded.read(0, 70).transpose(0, 1).contiguous()
    )
    store.save_video("a", older)
    with pytest.raises(FeatureError, match="run r2tuning extract again"):
        store.video("a")
    assert not store.is_current("a", Path(encoded.facts.video), 10, "exact")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_leftovers_of_killed_runs_go_away(
    layout: Layout, tmp_path: Path, clip: Backbone, encoded: EncodedVideo
) -> None:
    store = fill(tmp_path, clip, encoded, layout)
    (videos,) = {path.parent for path in tmp_path.glob("*vid*/a.*")}
    stale, under_way = videos / ".b.safetensors.1.part", videos / ".c.npy.2.part"
    for part in (stale, under_way):
        part.write_bytes(b"half")
    os.utime(stale, (0, time.time() - 7200))
    assert not store.has_video("b")
    FeatureStore.create(tmp_path, clip, layout)
    assert not stale.exists()
    assert under_way.exists()
    assert torch.equal(store.video("a"), encoded.read(0, 70).transpose(0, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_write_that_fails_leaves_nothing(
    layout: Layout, tmp_path: Path, clip: Backbone, encoded: EncodedVideo
) -> None:
    store = fill(tmp_path, clip, encoded, layout)
    (file,) = tmp_path.glob("*vid*/a.*")
    file.unlink()
    file.mkdir()  # where the complete file cannot go
    (file / "in the way").touch()
    with pytest.raises(FeatureError, match="cannot be written"):
        store.save_video("a", encoded)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_store_made_before_layouts_were_renamed_is_read(
    tmp_path: Path, clip: Backbone, encoded: EncodedVideo
) -> None:
    fill(tmp_path, clip, encoded, "safetensors")
    facts = tmp_path / "store.json"
    facts.write_text(facts.read_text().replace('"layout": "safetensors"', '"layout": "own"'))
    assert FeatureStore.open(tmp_path).frames("a") == 70
    assert FeatureStore.create(tmp_path, clip).has_video("a")
