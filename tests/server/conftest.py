"""A library of Moving Shapes, and a server for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Browser, start_browser
from support.server import Client, Server, running
from support.shapes import write_shapes
from support.videos import write_video

from r2tuning import Library
from r2tuning.datasets.annotations import Annotation

Shapes = dict[Path, list[Annotation]]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="session")
def shapes(base: Path) -> Shapes:
    """Two videos below the root ``videos``, with their queries."""
    folder = base / "videos" / "2024"
    folder.mkdir(parents=True)
    return {folder / f"{seed}.mp4": write_shapes(folder / f"{seed}.mp4", [seed]) for seed in (91000000, 91000002)}


@pytest.fixture(scope="session")
def filled(base: Path, shapes: Shapes) -> Library:
    """A library of these videos, which tests must not change."""
    library = Library(base / "library", model="demo")
    added = library.add(base / "videos")
    assert (added.indexed.videos, added.failures) == (2, ())
    return library


@pytest.fixture(scope="session")
def server(base: Path, filled: Library) -> Iterator[Server]:
    """A server for it, which needs a token."""
    with running(filled.folder, "--root", base / "videos", "--token", "a-secret-token", "--rate", 100) as server:
        server.client.token = "a-secret-token"
        server.client.wait_until_ready()
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Client:
    return server.client


@pytest.fixture(scope="session")
def ids(client: Client) -> dict[str, str]:
    """Ids of the videos by their names."""
    return {one["name"]: one["id"] for one in client.get("/videos").check(200)["videos"]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a small library of two short videos, below ``videos``, which a test may change."""
    (tmp_path / "videos").mkdir()
    for number in range(2):
        write_video(tmp_path / "videos" / f"{number}.mp4", frames=20 + number, fps=2)
    return tmp_path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small video."""
    return write_video(tmp_path_factory.mktemp("small") / "small.mp4", frames=30, fps=2)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with start_browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="session")
def query(shapes: Shapes) -> str:
    return next(iter(shapes.values()))[0].query


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Browser]:
    """The page as the server's address opens it, with nothing selected; nothing must fail in it."""
    origin = f"http://127.0.0.1:{server.client.port}"
    browser.command("Storage.clearDataForOrigin", origin=origin, storageTypes="local_storage")
    browser.open(server.address)
    browser.wait('return document.getElementById("facts").textContent.includes("model demo")')
    yield browser
    assert browser.read_log("browser") == []
    for address in browser.requests():
        assert address.startswith((server.address.partition("#")[0], "blob:", "about:", "data:")), address
