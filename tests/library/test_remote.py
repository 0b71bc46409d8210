"""A library in an object store answers like one in a folder, has one writer, and loses nothing that it published."""

import json
import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.shapes import write_shapes

from r2tuning import Grounder, Library
from r2tuning.datasets.annotations import Annotation
from r2tuning.errors import LibraryError
from r2tuning.library.catalog import Catalog
from r2tuning.library.hits import Hits
from r2tuning.library.lance import LanceIndex, _where
from r2tuning.library.remote import RemotePlace
from r2tuning.library.segments import FrameVectors, find_peaks

moto = pytest.importorskip("moto.server")
Shapes = dict[Path, list[Annotation]]
Bucket = str


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket on a server of this machine, which the environment points to."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "any"),
            ("AWS_SECRET_ACCESS_KEY", "any"),
            ("AWS_ENDPOINT_URL", url),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("R2TUNING_CACHE", str(tmp_path_factory.mktemp("cache"))),
        ):
            environment.setenv(name, value)
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
        yield "s3://bucket"
    server.stop()


def facts(hits: Hits) -> list[tuple[object, ...]]:
    return [(hit.video, hit.moment.start, hit.moment.end, hit.score, hit.cosine, hit.refined) for hit in hits]


@pytest.fixture(scope="module")
def remote(bucket: Bucket, filled: Library, shapes: Shapes) -> Library:
    library = Library(f"{bucket}/shapes", model="demo")
    added = library.add(list(shapes))
    assert (added.indexed.videos, added.failures) == (len(shapes), ())
    return library


def test_hits_are_those_of_a_library_in_a_folder(remote: Library, filled: Library, shapes: Shapes) -> None:
    reader, near = Library(remote.name), Library(filled.folder)
    for annotation in [one for queries in shapes.values() for one in queries][::4]:
        assert facts(reader.search(annotation.query, top=30)) == facts(near.search(annotation.query, top=30))
    place = str(next(iter(shapes)))
    assert facts(reader.search("a shape", within=place)) == facts(near.search("a shape", within=place))
    assert [one.state for one in reader.list()] == ["ready"] * len(shapes)
    ours, theirs = reader.info(), filled.info()
    assert (ours.name, ours.videos, ours.rows) == (remote.name, theirs.videos, theirs.rows)
    assert ours.bytes > 0.8 * theirs.bytes
    assert list(reader.check()) == []


def test_readers_see_changes_and_what_was_removed_is_gone(bucket: Bucket, shapes: Shapes) -> None:
    first, second, *_ = shapes
    writer, reader = Library(f"{bucket}/two", model="demo"), Library(f"{bucket}/two")
    with pytest.raises(LibraryError, match=r"s3://bucket/two: has no library; make one with r2tuning library add"):
        reader.search("a dog")
    writer.add([first])
    assert {hit.video for hit in reader.search("a circle")} == {str(first)}
    writer.add([second])
    assert {hit.video for hit in reader.search("a circle", top=50)} == {str(first), str(second)}
    assert writer.add([first, second]).indexed.videos == 0
    writer.remove([first])
    assert {hit.video for hit in reader.search("a circle", top=50)} == {str(second)}
    place = RemotePlace(f"{bucket}/two")
    assert (place._list(), place.list_videos(1)) == ({"2.safetensors"}, {2})
    place._store.put("videos/2.safetensors", b"")
    place._store.delete("videos/2.safetensors")
    assert list(reader.check()) == ["video 2: its v̂ is missing"]
    writer.check(repair_it=True)
    assert writer.rescan().indexed.videos == 1
    assert list(reader.check()) == []


def test_another_generation_takes_the_place_of_the_old_one(bucket: Bucket, shapes: Shapes) -> None:
    path = next(iter(shapes))
    Library(f"{bucket}/switch", model="demo", keep="vectors").add([path])
    Library(f"{bucket}/switch", model="demo", keep="answers").rescan()
    reader = Library(f"{bucket}/switch")
    assert all(hit.refined for hit in reader.search("a circle"))
    place = RemotePlace(f"{bucket}/switch")
    assert place._list_tables() == ["vectors-2"]
    assert place._list() == {"2.safetensors"}
    assert Library(f"{bucket}/switch", keep="vectors").rescan().indexed.videos == 0
    assert (place._list_tables(), place._list()) == (["vectors-2"], set())
    assert not any(hit.refined for hit in reader.search("a circle"))
    assert list(reader.check()) == []


def test_one_writer_at_a_time_and_a_dead_one_is_replaced(
    bucket: Bucket, shapes: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(iter(shapes))
    library = Library(f"{bucket}/lease", model="demo", keep="vectors")
    place = RemotePlace(f"{bucket}/lease")
    place._store.put("writer.json", json.dumps({"host": "elsewhere", "process": 7}).encode())
    with pytest.raises(LibraryError, match="is being written by process 7 on elsewhere; wait for it, or 10 minutes"):
        library.add([path])
    monkeypatch.setattr("r2tuning.library.remote.LEASE", 0.0)
    assert library.add([path]).indexed.videos == 1
    with place.write() as catalog:
        other = RemotePlace(f"{bucket}/lease")
        with other.write() as late, late.change():  # a lease of no time at all
            late.add_roots(["/x"])
        with pytest.raises(LibraryError, match="another process has written to it; run the command again"):
            place.publish(catalog)
        place._tag = other._tag


def test_what_was_not_published_is_lost_and_nothing_else(
    bucket: Bucket, shapes: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, *_ = shapes
    library = Library(f"{bucket}/dead", model="demo")
    library.add([first])

    def die(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(RemotePlace, "publish", lambda self, catalog: (self.flush(), die()))
        with pytest.raises(RuntimeError):
            library.add([second])
    reader = Library(library.name)
    assert {hit.video for hit in reader.search("a circle", top=50)} == {str(first)}
    library.add([third])
    assert {hit.video for hit in reader.search("a circle", top=50)} == {str(first), str(third)}
    assert RemotePlace(library.name).list_videos(1) == {1, 2}
    assert list(reader.check()) == []


def test_it_is_published_while_it_is_written(bucket: Bucket, shapes: Shapes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2tuning.library.remote.PUBLISH", 0.0)
    seen: list[int] = []
    library = Library(f"{bucket}/often", model="demo", keep="vectors")

    def look(done: int, expected: int) -> None:
        if done > 1:
            seen.append(Library(library.name).info().videos)

    library.add(list(shapes)[:3], progress=look)
    assert seen == [1, 2]  # the last one is published at the end
    assert Library(library.name).info().videos == 3


def test_a_store_that_cannot_be_reached_is_one_line(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LibraryError, match=r"nothing://bucket/a: .*; write it as s3://bucket/folder"):
        Library("nothing://bucket/a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OBJECT_STORE_RETRIES", "0")
    with pytest.raises(LibraryError, match=r"s3://bucket/a: cannot be reached .*; check the address and the access"):
        Library("s3://bucket/a").search("a dog")


@pytest.mark.parametrize("indexed", [False, True])
def test_scans_find_the_nearest_peaks(tmp_path: Path, indexed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all cosines, worked out at once."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr("r2tuning.library.lance.INDEXED", 1000 if indexed else 10**9)
    monkeypatch.setattr("r2tuning.library.lance.PROBES", 10.0)  # all partitions: only the rounding is left
    videos = {number: walk(rng) for number in range(1, 41)}
    index, catalog = LanceIndex(str(tmp_path)), Catalog.__new__(Catalog)
    for number, vectors in videos.items():
        index.append(catalog, 3, number, vectors)
    index.flush()
    index.optimize()
    view = index.view(catalog, 3)
    assert view._indexed == indexed
    for allowed in (set(videos), set(range(1, 41, 2)), {7}, {7, 99}, set()):
        for _ in range(5):
            target = videos[rng.integers(1, 41)].vectors[rng.integers(60)].astype(np.float32)
            query = target + rng.standard_normal(64, dtype=np.float32) / 10
            query = torch.from_numpy(query / np.linalg.norm(query))
            expected = [
                peak
                for number in sorted(allowed & videos.keys())
                for peak in find_peaks(
                    number,
                    videos[number].frames,
                    (torch.from_numpy(videos[number].vectors.astype(np.float32)) @ query).numpy(),
                    5,
                    10,
                )
            ]
            expected.sort(key=lambda peak: (-peak.cosine, peak.video, peak.frame))
            found = view.scan(query, allowed, 5, 10)
            assert [(p.video, p.frame, p.first, p.last) for p in found] == [
                (p.video, p.frame, p.first, p.last) for p in expected[:5]
            ]
            assert [p.cosine for p in found] == pytest.approx([p.cosine for p in expected[:5]], abs=1e-6)


def walk(rng: np.random.Generator) -> FrameVectors:
    """Vectors of a video whose frames change slowly."""
    values = rng.standard_normal(64) + np.cumsum(rng.standard_normal((60, 64)) / 8, axis=0)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return FrameVectors(values.astype(np.float16), np.arange(0, 120, 2, dtype=np.int32))


def test_conditions_name_ranges() -> None:
    assert _where({1, 2, 3, 7, 9, 10}) == "video BETWEEN 1 AND 3 OR video BETWEEN 9 AND 10 OR video IN (7)"
    assert _where([5]) == "video IN (5)"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, grounder: Grounder) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_shapes(path, range(700, 708))
    return path


def test_a_window_of_a_long_video_is_read_alone(bucket: Bucket, long: Path, tmp_path: Path) -> None:
    far, near = Library(f"{bucket}/long", model="demo"), Library(tmp_path / "near", model="demo")
    for library in (far, near):
        library.add([long])
    hits = near.search("a red circle falls", top=30)
    assert len(hits) > 3
    assert facts(far.search("a red circle falls", top=30)) == facts(hits)
