"""A small model and a short video, for every file of tests its own."""

from pathlib import Path

import pytest
from support.models import save_tiny_model
from support.videos import write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return save_tiny_model(folder)


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return write_video(folder / "my video ünï 'quoted'.mp4", frames=120, fps=10)
