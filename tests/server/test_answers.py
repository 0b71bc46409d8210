"""The API answers what the library answers, in JSON and with ids."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from support.server import Client

from r2tuning import Grounder, Library
from r2tuning.datasets.annotations import Annotation

Shapes = dict[Path, list[Annotation]]


def search(client: Client, **asked: Any) -> list[dict[str, Any]]:
    return client.post("/search", asked).check(200)["searches"]


def same_hits(found: dict[str, Any], expected: Any, ids: dict[str, str], base: Path) -> None:
    """The page of the API is that of the library, but that a name and an id stand for each path."""
    assert {**found, "hits": []} == {**expected.to_dict(), "hits": []}
    for mine, theirs in zip(found["hits"], expected.to_dict()["hits"], strict=True):
        name = str(Path(theirs["video"]).relative_to(base))
        assert mine == theirs | {"video": ids[name], "name": name, "copies": []}


def test_a_search_is_that_of_the_library(
    client: Client, filled: Library, shapes: Shapes, ids: dict[str, str], base: Path
) -> None:
    queries = [annotations[0].query for annotations in shapes.values()]
    pages = search(client, queries=queries, top=4)
    for query, page in zip(queries, pages, strict=True):
        same_hits(page, filled.search(query, top=4), ids, base)
        (more,) = search(client, queries=[query], top=4, after=page["next"])
        same_hits(more, filled.search(query, top=4, after=page["next"]), ids, base)
    (page,) = search(client, queries=[queries[0]], without=[queries[1]], threshold=0.2)
    same_hits(page, filled.search(queries[0], without=[queries[1]], threshold=0.2), ids, base)


def test_more_like_a_moment_and_like_a_picture(
    client: Client, filled: Library, shapes: Shapes, ids: dict[str, str], base: Path, tmp_path: Path
) -> None:
    path = next(iter(shapes))
    name = str(path.relative_to(base))
    (page,) = search(client, like={"video": ids[name], "start": 10, "end": 16})
    same_hits(page, filled.search(like=(path, 10, 16)), ids, base)
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).to_image()
    picture.save(tmp_path / "picture.png")
    content = (tmp_path / "picture.png").read_bytes()
    (page,) = search(client, image=base64.b64encode(content).decode(), top=3)
    expected = filled.search(image=tmp_path / "picture.png", top=3)
    assert page["query"] == "like picture"
    page["query"] = expected.query
    same_hits(page, expected, ids, base)
    client.post("/search", {"image": base64.b64encode(b"no picture").decode()}).refused(422, "image: ")


def test_filters_take_names_of_the_api(client: Client, shapes: Shapes) -> None:
    for within, count in (
        ("videos", 2),
        ("videos/2024", 2),
        ("videos/2023", 0),
        ("videos/2024/91000000.mp4", 1),
        ("videos/*/91000000.*", 1),
        ("*/91000000.mp4", 1),
        ("2024/*", 2),
        ("library", 0),
    ):
        (page,) = search(client, queries=["a dog"], within=within)
        assert page["videos"] == count, within
    newest = max(path.stat().st_mtime for path in shapes)
    for since, count in ((newest + 1, 0), (0, 2)):
        time = datetime.fromtimestamp(since, timezone.utc).isoformat()
        assert search(client, queries=["a dog"], since=time)[0]["videos"] == count
    assert search(client, queries=["a dog"], min_duration=1e6)[0]["videos"] == 0


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({}, "give one of queries, like and image"),
        ({"queries": []}, "give one of"),
        ({"queries": ["a"], "image": "aGk="}, "give one of"),
        ({"without": ["a"], "like": {"video": "0" * 16, "start": 0, "end": 1}}, "without goes with queries"),
        ({"queries": ["a", "b"], "after": "1-2-3"}, "after goes with one query"),
        ({"queries": ["a"], "top": 0}, "body.top"),
        ({"queries": ["a"], "tops": 1}, "body.tops"),
        ({"queries": ["a"], "threshold": 2}, "body.threshold"),
        ({"queries": ["a"], "since": "yesterday"}, "body.since"),
        ({"queries": [" "]}, "query"),
        ({"image": "%%%"}, "image: "),
    ],
)
def test_wrong_searches_are_refused(client: Client, asked: dict[str, Any], text: str) -> None:
    client.post("/search", asked).refused(422, text)


def test_pages_that_do_not_exist_are_refused(client: Client) -> None:
    client.post("/search", {"queries": ["a"], "after": "x"}).refused(409, "is no page of hits")
    like = {"video": "0" * 16, "start": 0, "end": 1}
    client.post("/search", {"like": like}).refused(404, "0000000000000000: is not in the library")


def test_grounding_is_that_of_the_model(client: Client, shapes: Shapes, ids: dict[str, str], base: Path) -> None:
    path, annotations = next(iter(shapes.items()))
    name = str(path.relative_to(base))
    queries = [annotations[0].query, annotations[1].query]
    answers = client.post(f"/videos/{ids[name]}/ground", {"queries": queries, "top": 3}).check(200)["answers"]
    expected = Grounder.from_pretrained("demo").ground(path, queries, top_k=3)
    for mine, theirs in zip(answers, expected, strict=True):
        right = theirs.to_dict()
        assert mine.keys() == right.keys() | {"name"}
        assert (mine["video"], mine["name"], mine["query"]) == (ids[name], name, theirs.query)
        for key in ("duration", "start", "model", "sampling", "calibrated", "present", "identity", "windows"):
            assert mine[key] == right[key], key
        best, other = mine["moments"][0], right["moments"][0]
        assert [best["start"], best["end"]] == pytest.approx([other["start"], other["end"]], abs=0.3)
        assert np.abs(np.array(mine["saliency"]["scores"]) - right["saliency"]["scores"]).mean() < 0.01


def test_highlights_and_summary_follow_the_saliency(client: Client, shapes: Shapes, ids: dict[str, str]) -> None:
    video, query = next(iter(ids.values())), "a blue cross"
    (answer,) = client.post(f"/videos/{video}/ground", {"queries": [query]}).check(200)["answers"]
    found = client.post(f"/videos/{video}/highlights", {"query": query, "top": 2, "seconds": 4}).check(200)
    assert found["saliency"] == answer["saliency"]
    best = answer["saliency"]["times"][int(np.argmax(answer["saliency"]["scores"]))]
    first, second = found["moments"]
    assert first["start"] <= best <= first["end"]
    assert first["end"] - first["start"] == pytest.approx(4, abs=1e-3)
    assert first["end"] <= second["start"] or second["end"] <= first["start"]
    job = client.wait(client.post(f"/videos/{video}/summary", {"query": query, "seconds": 12}).check(202)["id"])
    assert (job["state"], job["result"]) == ("done", "summary.json")
    summary = client.get(f"/jobs/{job['id']}/result").check(200)
    assert (summary["budget"], summary["video"]) == (12, video)
    assert 0 < summary["length"] <= 12
    assert [shot["start"] for shot in summary["shots"]] == sorted(shot["start"] for shot in summary["shots"])
    client.post(f"/videos/{video}/highlights", {}).refused(409, "without a query", "--keep raw")
    client.post(f"/videos/{video}/summary", {"ratio": 0.5, "seconds": 3}).refused(422, "ratio or seconds")


def test_many_who_ask_at_once_all_get_their_own_answer(client: Client, ids: dict[str, str]) -> None:
    """Questions about one video that wait are answered in one batch, which must not mix them up."""
    video = next(iter(ids.values()))
    words = [f"a {color} {shape}" for color in ("red", "blue", "green") for shape in ("cross", "circle", "star")]

    def ask(word: str) -> Any:
        return client.post(f"/videos/{video}/ground", {"queries": [word, "a heart"]}).check(200)["answers"]

    with ThreadPoolExecutor(len(words)) as pool:
        together = list(pool.map(ask, words))
    for word, answers in zip(words, together, strict=True):
        assert [answer["query"] for answer in answers] == [word, "a heart"]
        alone = client.post(f"/videos/{video}/ground", {"queries": [word], "top": 6}).check(200)["answers"][0]
        assert answers[0]["presence"] == pytest.approx(alone["presence"], abs=1e-3)
        np.testing.assert_allclose(answers[0]["saliency"]["scores"], alone["saliency"]["scores"], atol=1e-3)


def test_many_who_search_the_same_get_the_same(client: Client) -> None:
    """Searches that wait and are equal are done once."""
    asked = [f"a {color} star" for color in ("red", "blue")] * 8
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda query: search(client, queries=[query], top=17), asked))
    for query, pages in zip(asked, together, strict=True):
        assert pages == search(client, queries=[query], top=17)
        assert pages[0]["query"] == query


def test_pictures_are_those_of_the_video(client: Client, shapes: Shapes, ids: dict[str, str], base: Path) -> None:
    path = next(iter(shapes))
    video = ids[str(path.relative_to(base))]
    with av.open(str(path)) as container:  # a picture a second
        frames = [frame.to_image() for _, frame in zip(range(41), container.decode(video=0), strict=False)]

    def read(reply: Any) -> np.ndarray:
        assert (reply.status, reply.kind) == (200, "image/jpeg")
        return np.asarray(Image.open(io.BytesIO(reply.content)).convert("RGB"), np.float64)

    def find(shown: np.ndarray) -> int:
        """The frame that a picture shows: the one that differs least from it."""
        size = shown.shape[1], shown.shape[0]
        scaled = [np.asarray(frame.resize(size, Image.Resampling.BILINEAR), np.float64) for frame in frames]
        return int(np.argmin([np.abs(shown - each).mean() for each in scaled]))

    shown = read(client.get(f"/videos/{video}/thumbnail?time=20.5&height=120"))
    assert (shown.shape[0], find(shown)) == (120, 20)
    strip = read(client.get(f"/videos/{video}/strip?start=0&end=40&frames=4&height=60"))
    assert [find(part) for part in np.split(strip, 4, axis=1)] == [5, 15, 25, 35]
    client.get(f"/videos/{video}/strip?start=5&end=5").refused(422, "end: 5 is not after start")
    client.get(f"/videos/{video}/thumbnail?time=nan").refused(422, "query.time")
