"""The names that users may rely on; a change here is a change for them."""

import subprocess
import sys

import pytest

import r2tuning


def test_public_names_are_these() -> None:
    assert r2tuning.__all__ == [
        "EncodedVideo",
        "Grounder",
        "Grounding",
        "Library",
        "ModelOutput",
        "Moment",
        "R2Config",
        "R2Tuning",
        "R2TuningError",
        "Saliency",
        "Summary",
        "VideoInfo",
        "decode",
        "load_checkpoint",
        "outline_video",
        "probe",
        "summarize",
    ]


@pytest.mark.parametrize("name", r2tuning.__all__)
def test_every_public_name_exists_and_says_what_it_is(name: str) -> None:
    assert getattr(r2tuning, name).__doc__
    assert name in dir(r2tuning)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Grouner'"):
        r2tuning.Grouner  # noqa: B018


def test_importing_costs_no_torch() -> None:
    script = "import sys, r2tuning; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'av', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
