"""``r2tuning``: the list of commands, and the one place where errors become an exit code."""

import atexit
import gc
import os
import re
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

import r2tuning
from r2tuning.cli import raise_interrupts
from r2tuning.errors import R2TuningError, R2TuningWarning, show_on_one_line
from r2tuning.processes import unwind_on_signals

COMMANDS = {
    "ground": "ground",
    "highlights": "ground",
    "summarize": "ground",
    "library": "library",
    "serve": "serve",
    "mcp": "mcp",
    "extract": "extract",
    "models": "models",
    "convert": "models",
    "prepare": "prepare",
    "cache": "cache",
    "download": "download",
    "train": "train",
    "evaluate": "evaluate",
    "calibrate": "evaluate",
    "score": "score",
    "reproduce": "evaluate",
    "ablate": "train",
    "plot": "plot",
    "attention": "plot",
    "synthesize": "synthesize",
    "doctor": "doctor",
}
"""In the order of the help; each is the function, or the group, of that name in the module given here, imported when it
is used."""


class Commands(TyperGroup):
    """Imports a command when it is used, and turns errors that people can act on into one line and exit code 1."""

    _listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Lists the commands without importing them, which would take a third of the time."""
        self._listing = True
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  (the signature is Click's)
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:  # noqa: ARG002
        """The command of a name; None if there is none."""
        if name not in COMMANDS:
            return None
        if self._listing and (summary := _read_summary(name)):
            return TyperCommand(name, help=summary)
        command = getattr(import_module(f"{__package__}.{COMMANDS[name]}"), name)
        if isinstance(command, typer.Typer):  # several commands under one name
            group = typer.main.get_command(command)
            group.name = name
            return group
        single = typer.Typer(add_completion=False)
        single.command(name)(command)
        return typer.main.get_command(single)

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; bugs keep their traceback."""
        warnings.showwarning = _show_warning
        warnings.simplefilter("always", R2TuningWarning)
        try:
            raise_interrupts()
            result = super().invoke(ctx)
            sys.stdout.flush()
        except R2TuningError as error:
            raise _fail(str(error)) from error
        except ModuleNotFoundError as error:
            from r2tuning.diagnosis import EXTRAS

            extra = next((extra.name for extra in EXTRAS if error.name in extra.modules), None)
            if extra is None:
                raise
            raise _fail(f"{error.name} is not installed; pip install 'r2tuning[{extra}]'") from error
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            raise typer.Exit(130) from None
        except BrokenPipeError:  # such as `r2tuning … | head`
            _drop_stdout()
            raise typer.Exit(1) from None
        except MemoryError as error:
            raise _fail(
                "not enough memory; close other programs, or choose a shorter video or a smaller batch"
            ) from error
        except OSError as error:
            _drop_stdout()  # if that is what could not be written, it would fail again at the end
            place = f"{error.filename}: " if error.filename else "output cannot be written: "
            raise _fail(f"{place}{error.strerror or error}; free space or choose another place") from error
        except RuntimeError as error:
            if "allocate memory" not in str(error):  # of PyTorch
                raise
            raise _fail(
                "not enough memory; close other programs, or choose a shorter video or a smaller batch"
            ) from error
        return result


def _read_summary(name: str) -> str:
    """The first line of a command's help, from its source; nothing if that cannot be read."""
    try:
        source = Path(__file__).with_name(f"{COMMANDS[name]}.py").read_text(encoding="utf-8")
    except OSError:  # compiled files alone, or an archive
        return ""
    docstring = rf'^def {name}\(.*?^    """(.+?)(?:""")?$'
    found = re.search(docstring, source, re.DOTALL | re.MULTILINE)
    found = found or re.search(rf'^{name} = typer\.Typer\([^)]*?help="(.+?)"', source, re.MULTILINE)
    return found[1] if found else ""


def _fail(message: str) -> typer.Exit:
    print(f"error: {show_on_one_line(message)}", file=sys.stderr)
    return typer.Exit(1)


def _drop_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001  (the signature is Python's)
    line: str | None = None,
) -> None:
    """Shows our warnings, which are for people, on one line, and others as usual."""
    if _is_other_rank():
        return
    if issubclass(category, R2TuningWarning):
        print(f"warning: {show_on_one_line(str(message), 1000)}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _is_other_rank() -> bool:
    """Whether this is one of several training processes that run the command, and not the one that speaks."""
    return any(int(os.environ.get(rank) or 0) for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"r2tuning {r2tuning.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Find the moment: search a video with a sentence."""


def run() -> None:
    """Prepares the process and runs the command."""
    if sys.stderr is None:  # closed by the caller; Python would print messages to stdout
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if sys.stdout is None:  # its number would go to the next file that is opened
        sys.exit("error: stdout is closed; redirect it to a file, or to /dev/null")
    unwind_on_signals()
    # PyTorch's objects live as long as the process. Collecting garbage less often, and not at exit, saves a short
    # command a quarter of its time.
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
    # A waiting thread of PyTorch spins for half a millisecond, longer than the pause between two steps of a model,
    # before it sleeps; by default it keeps its core busy for many milliseconds in which videos could be decoded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if _is_other_rank():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of PyTorch, whose warnings are those of the first
    app()
