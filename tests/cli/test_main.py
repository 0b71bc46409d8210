"""The command line as a whole: help without weight, every command documented."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.golden import official_state_dict
from typer.testing import CliRunner

import r2tuning
from r2tuning.checkpoints import load_checkpoint
from r2tuning.checkpoints.published import PUBLISHED
from r2tuning.cli import main
from r2tuning.cli.main import COMMANDS, app

GUIDES = [page.read_text(encoding="utf-8") for page in (Path(__file__).parents[2] / "docs").glob("*.md")]


def test_help_and_version_do_not_import_torch() -> None:
    for option in ("--help", "--version"):
        script = (
            "import sys; sys.argv = ['r2tuning', sys.argv[1]]\n"
            "from r2tuning.cli.main import run\n"
            "try: run()\n"
            "except SystemExit as stop: assert not stop.code\n"
            "heavy = {'torch', 'transformers', 'matplotlib', 'av'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", script, option], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_a_full_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_for_all() -> None:
        bytearray(1 << 62)

    monkeypatch.setattr("r2tuning.cli.models.models", ask_for_all)
    done = CliRunner().invoke(app, ["models"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: not enough memory; close other programs, or ")
    assert done.stderr.count("\n") == 1


def test_a_model_on_this_machine_is_loaded_without_the_client_of_the_hub() -> None:
    """It takes a tenth of a second, of the one that a short command takes."""
    script = (
        "import sys\n"
        "from r2tuning.grounder import Grounder\n"
        "Grounder.from_pretrained('demo')\n"
        "needless = {'huggingface_hub', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "assert not needless, needless"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=["by default", "as set", "as another setting implies"],
)
def test_waiting_threads_leave_their_cores_unless_told_otherwise(given: dict[str, str], spins: str | None) -> None:
    script = (
        "import os, sys; sys.argv = ['r2tuning', '--version']\n"
        "from r2tuning.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**kept, **given}
    )
    assert done.stdout.splitlines()[-1] == str(spins)


def test_a_command_imports_what_it_needs() -> None:
    script = (
        "import sys; sys.argv = ['r2tuning', 'ground', '--help']\n"
        "from r2tuning.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith(('r2tuning.cli.', 'r2tuning.output.'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = set(json.loads(done.stdout.splitlines()[-1].replace("'", '"')))
    commands = {"r2tuning.cli.main", "r2tuning.cli.ground", "r2tuning.cli.options", "r2tuning.cli.outputs"}
    assert names == commands | {"r2tuning.cli.videos", "r2tuning.output.registry"}


def test_commands_are_listed_in_order_and_an_unknown_one_is_refused() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout.splitlines()
    rows = [line.split()[1] for line in shown if line.startswith("│ ") and line[2:3].isalpha()]
    assert rows == list(COMMANDS)
    assert {path.stem for path in Path(main.__file__).parent.glob("*.py")} >= set(COMMANDS.values())
    result = CliRunner().invoke(app, ["grund"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'grund'" in result.stderr


def test_the_help_shows_the_first_line_of_each_command_without_importing_it() -> None:
    for name in COMMANDS:
        command = main.Commands().get_command(None, name)
        assert main._read_summary(name) == command.help.splitlines()[0], name
    script = (
        "import sys; sys.argv = ['r2tuning', '--help']\n"
        "from r2tuning.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: print([name for name in sys.modules if name.startswith('r2tuning.')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Score a file of predictions" in done.stdout
    modules = {"cli", "cli.main", "errors", "processes"}
    assert set(json.loads(done.stdout.splitlines()[-1].replace("'", '"'))) == {f"r2tuning.{name}" for name in modules}


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"r2tuning {r2tuning.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_a_guide_and_helps(command: str) -> None:
    assert any(f"r2tuning {command}" in guide for guide in GUIDES)
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert result.stdout.count("\n") > 8


def test_models_lists_every_published_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path))
    shown = CliRunner().invoke(app, ["models"]).stdout
    for entry in PUBLISHED:
        (row,) = [line for line in shown.splitlines() if line.split()[:1] == [entry.name]]
        assert row.split()[2] == f"{entry.fps:g}"
        assert row.split()[-1] == "no"
    (row,) = [line for line in shown.splitlines() if line.split()[:2] == ["demo", "moments"]]
    assert row.split()[-1] == "yes"
    assert len(PUBLISHED) == 20


def test_convert(tmp_path: Path) -> None:
    state = official_state_dict("saliency")
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "r2_tuning_tvsum_bk-00000000.pth")
    arguments = ["convert", str(tmp_path / "r2_tuning_tvsum_bk-00000000.pth"), str(tmp_path / "folder")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "saliency model" in result.stdout
    assert torch.equal(load_checkpoint(tmp_path / "folder").level_scale, state["coef"])
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "bad.pth"), str(tmp_path / "other")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "bad.pth" in result.stderr
    assert not (tmp_path / "other").exists()


def test_training_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "lightning.py").write_text("raise ModuleNotFoundError('no', name='lightning')")
    script = "import sys; sys.argv[0] = 'r2tuning'; from r2tuning.cli.main import run; run()"
    command = [sys.executable, "-c", script, "train", "charades-sta"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr == "error: lightning is not installed; pip install 'r2tuning[train]'\n"
