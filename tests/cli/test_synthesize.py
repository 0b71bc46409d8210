"""``r2tuning synthesize`` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from typer.testing import CliRunner

from r2tuning.cli.main import app
from r2tuning.synthetic import make_video
from r2tuning.synthetic.generate import MOST_PER_SEED

# The command inside the error boundary, without the other commands.
SHORT = 2  # its first video of the validation split is the shortest there can be


def test_the_command_says_what_it_made_and_refuses_to_mix(tmp_path: Path) -> None:
    assert make_video(SHORT * MOST_PER_SEED, "val").duration == 36  # or the world has changed: look for another seed
    arguments = ["synthesize", str(tmp_path), "--videos", "1", "--seed", str(SHORT), "--split", "val"]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    queries = [json.loads(line) for line in (tmp_path / "val.jsonl").read_text().splitlines()]
    assert result.stdout.splitlines()[0] == f"{tmp_path}/val.jsonl: {len(queries)} queries of 1 videos (1 made, 0 kept)"
    assert "val_preview.png: contact sheet" in result.stdout
    again = CliRunner().invoke(app, arguments)
    assert "(0 made, 1 kept)" in again.stdout
    arguments[5] = str(SHORT + 1)
    refused = CliRunner().invoke(app, arguments)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "has 1 other videos" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_an_interrupted_run_leaves_nothing_half_written(tmp_path: Path) -> None:
    script = f"from r2tuning.synthetic import synthesize; synthesize({str(tmp_path)!r}, 500)"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    try:
        while not list((tmp_path).glob("videos/.r2tuning-*")):
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert not list((tmp_path / "videos").glob(".r2tuning-*"))
    assert not (tmp_path / "train.jsonl").exists()
