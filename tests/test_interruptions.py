"""Commands that are stopped leave nothing behind, continue, and do not write where another one does."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.cli import refused, run
from support.interrupt import OVER, Command, describe, find_leftovers, find_members, interrupt, prepare, start
from support.interrupt import run as complete
from support.videos import write_moving

from r2tuning.errors import FeatureError, TrainingError
from r2tuning.features.store import STORE_FILE
from r2tuning.files import name_temporary, remove_leftovers, write_atomically
from r2tuning.processes import hold

POINTS = [("synthesize", signal.SIGKILL, 0.8), ("ground", signal.SIGTERM, 0.6)]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    return prepare(tmp_path_factory.mktemp("commands") / "data", shapes_too=False)


@pytest.mark.parametrize(("name", "number", "share"), POINTS)
def test_what_is_stopped_continues_and_leaves_nothing(
    name: str, number: signal.Signals, share: float, tmp_path: Path, commands: dict[str, Command]
) -> None:
    """A sample of the 54 points of ``python -m support.interrupt``."""
    command = commands[name]
    out = tmp_path / "out"
    out.mkdir()
    seconds = complete(*command.start(out))
    wanted = describe(out)
    out.rename(tmp_path / "whole")
    # The second run may take much less time than the first, whose imports the system then has in memory.
    while (problems := interrupt(command, out, number, share * seconds)) == [OVER]:
        shutil.rmtree(out)
        share *= 0.7
    assert problems == []
    assert describe(out) == wanted


def hold_elsewhere(folder: Path) -> subprocess.Popen[str]:
    """A process that holds a folder until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from r2tuning.processes import hold\n"
        "with hold(Path(sys.argv[1]), ValueError):\n    print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_told_who_the_first_is_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    first = hold_elsewhere(tmp_path)
    try:
        with pytest.raises(TrainingError, match=rf"is being written by process {first.pid} on .*; wait for it"):
            hold(tmp_path, TrainingError).__enter__()
    finally:
        first.kill()
        first.communicate()
    with hold(tmp_path, TrainingError), pytest.raises(FeatureError, match=f"process {os.getpid()}, which is this one"):
        hold(tmp_path, FeatureError).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_commands_do_not_share_a_store_a_run_or_a_folder_of_shapes(tmp_path: Path) -> None:
    write_moving(tmp_path / "a.mp4", "libx264", {}, frames=40)
    (tmp_path / "a.csv").write_text("video,start,end,query\na.mp4,0,1,a dog\n")
    (tmp_path / "busy").mkdir()
    first = hold_elsewhere(tmp_path / "busy")
    try:
        extract = ("extract", tmp_path / "a.csv", tmp_path, tmp_path / "busy", "--backbone", "demo", "--fps", 1)
        for command in (extract, ("synthesize", tmp_path / "busy", "-n", 1)):
            refused(run(*command), 1, f"process {first.pid} on")
    finally:
        first.kill()
        first.communicate()
    assert run(*extract).exit_code == 0


def test_a_store_whose_first_run_died_before_its_description_is_resumed(tmp_path: Path) -> None:
    write_moving(tmp_path / "a.mp4", "libx264", {}, frames=40)
    (tmp_path / "a.csv").write_text("video,start,end,query\na.mp4,0,1,a dog\n")
    store = tmp_path / "store"
    for name in ("videos", "queries"):
        (store / name).mkdir(parents=True)
    (store / ".lock").write_text("1 on here")
    (store / ".r2tuning-0-1-2-3.part").write_text("{")
    done = run("extract", tmp_path / "a.csv", tmp_path, store, "--backbone", "demo", "--fps", 1)
    assert done.exit_code == 0, done.output
    assert (store / STORE_FILE).is_file()


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from r2tuning.files import name_temporary\n"
    code += "print(name_temporary(Path(sys.argv[1])).name)"
    dead = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True).stdout.strip()
    (tmp_path / dead).mkdir()
    (tmp_path / dead / "file").write_text("x")
    ours = name_temporary(tmp_path)
    ours.write_text("x")
    parent = tmp_path / dead.replace(dead.split("-")[2], str(os.getppid()))
    parent.write_text("x")
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {ours, parent}


def test_the_next_write_sweeps_its_folder(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from r2tuning.files import replace_file\n"
    code += "with replace_file(Path(sys.argv[1]) / 'a') as part:\n    part.write_text('x'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert len(find_leftovers(tmp_path)) == 1
    write_atomically(tmp_path / "b", "x", force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_asked_to_end_removes_what_is_half_written(number: signal.Signals, tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from r2tuning.files import replace_file\n"
    code += "from r2tuning.processes import unwind_on_signals; unwind_on_signals()\n"
    code += "with replace_file(Path(sys.argv[1]) / 'a') as part:\n"
    code += "    part.write_text('x'); os.kill(os.getpid(), int(sys.argv[2])); print('went on')"
    done = subprocess.run([sys.executable, "-c", code, tmp_path, str(int(number))], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = start("synthesize", tmp_path, "-n", 50, "-j", 2)
    try:
        end = time.monotonic() + 120
        while not find_leftovers(tmp_path / "videos") and time.monotonic() < end:  # the workers are at work
            time.sleep(0.1)
        assert len(find_members(process.pid)) >= 3
        process.kill()
        process.communicate()
        end = time.monotonic() + 120
        while find_members(process.pid) and time.monotonic() < end:
            time.sleep(0.1)
        assert not find_members(process.pid)
    finally:
        process.kill()


@pytest.mark.parametrize("damage", ["log.csv", "state.pt"])
def test_a_damaged_log_or_state_is_one_line_on_resume(
    damage: str, tmp_path: Path, commands: dict[str, Command]
) -> None:
    command = commands["train"]
    assert run(*command.start(tmp_path / "o")).exit_code == 0
    file = tmp_path / "o" / "run" / damage
    for content in (
        b"step,epoch\nx\xff,1\n",
        b"",
        b"step\n-1e9\n",
        file.read_bytes()[: file.stat().st_size // 2] + b"\n",
    ):
        file.write_bytes(content)
        result = run(*command.again(tmp_path / "o"), "--set", "training.epochs=5")
        assert result.exit_code in (0, 1), result.output
        if result.exit_code:
            error = result.stderr.splitlines()[-1]
            assert error.startswith("error: ")
            assert damage in error
            assert len(error) < 310
