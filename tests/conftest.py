"""What holds for every test."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The default deadline judges how fast an example ran, which on a busy machine says nothing about the code.
settings.register_profile("r2tuning", deadline=None)
settings.load_profile("r2tuning")

# A shell without job control starts what runs in its background deaf to Ctrl-C, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """Weights that a test leaves to chance are the same in every run and in any order of the tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folder")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """A tiny checkpoint with its CLIP."""
    from support.models import save_tiny_model

    return save_tiny_model(folder)


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    """12 seconds, at a path that commands must quote."""
    from support.videos import write_video

    return write_video(folder / "my video ünï 'quoted'.mp4", frames=120, fps=10)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums depend on the number of threads, and small tensors gain nothing from more than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
