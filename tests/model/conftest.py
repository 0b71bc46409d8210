"""Tests of the model run on one thread."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def always_one_thread(one_thread: None) -> None:
    pass
