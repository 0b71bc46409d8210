"""Ctrl-C while the command still imports: one word, exit code 130, no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.mp4"
START = """
import os, signal, sys

class Interrupter:
    wanted = sys.argv.pop(1)

    def find_spec(self, name, path, target=None):
        if name == self.wanted:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
from r2tuning.cli import run
run()
print("not stopped", file=sys.stderr)
"""
EARLY = ["typer", "r2tuning.cli.ground"]
LATE = ["av", "numpy", "torch", "r2tuning.model"]


@pytest.mark.parametrize("module", EARLY + LATE)
def test_amid_an_import(module: str) -> None:
    """The process interrupts itself as soon as it looks for the module."""
    command = [sys.executable, "-c", START, module, "ground", str(SAMPLE), "a red ring", "-m", "demo"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, ""), ended.stderr
    assert ended.stderr.splitlines()[-1] == "stopped"
    assert "Traceback" not in ended.stderr


def test_the_installed_command_is_the_one_that_is_tested() -> None:
    project = (SAMPLE.parents[1] / "pyproject.toml").read_text()
    assert '\nr2tuning = "r2tuning.cli:run"\n' in project
