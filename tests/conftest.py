"""What holds for every test."""

import signal

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
