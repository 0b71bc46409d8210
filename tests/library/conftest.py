"""Small videos of Moving Shapes, and a library of them."""

from pathlib import Path

import pytest
from support.shapes import write_shapes

from r2tuning import Grounder, Library
from r2tuning.datasets.annotations import Annotation


@pytest.fixture(scope="session")
def grounder() -> Grounder:
    return Grounder.from_pretrained("demo")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[Annotation]]:
    """Three videos of 70 to 130 seconds, with their queries."""
    folder = tmp_path_factory.mktemp("shapes")
    return {
        folder / f"{seed}.mp4": write_shapes(folder / f"{seed}.mp4", [seed]) for seed in (91000000, 91000002, 91000003)
    }


@pytest.fixture(scope="session")
def filled(shapes: dict[Path, list[Annotation]], tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A library of these videos, which tests must not change."""
    library = Library(tmp_path_factory.mktemp("filled") / "library", model="demo")
    added = library.add(shapes)
    assert (added.indexed.videos, added.failures) == (3, ())
    return library
