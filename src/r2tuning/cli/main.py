"""``r2tuning``: the commands put together, and the one place where errors become an exit code."""

import atexit
import gc
import os
import sys
import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from r2tuning import __version__
from r2tuning.cli.ablate import ablate
from r2tuning.cli.attention import attention
from r2tuning.cli.calibrate import calibrate
from r2tuning.cli.convert import convert
from r2tuning.cli.download import download
from r2tuning.cli.evaluate import evaluate
from r2tuning.cli.extract import extract
from r2tuning.cli.ground import ground
from r2tuning.cli.highlights import highlights
from r2tuning.cli.models import models
from r2tuning.cli.plot import plot
from r2tuning.cli.reproduce import reproduce
from r2tuning.cli.score import score
from r2tuning.cli.summarize import summarize
from r2tuning.cli.synthesize import synthesize
from r2tuning.cli.train import train
from r2tuning.errors import R2TuningError, R2TuningWarning

EXTRA_OF = {"lightning": "train", "tensorboard": "train", "opentimelineio": "export"}
"""Modules that only an extra installs, and which."""

GARBAGE_THRESHOLD = 10_000
"""New objects after which Python looks for garbage among them; by itself, it does so after 700 or 2,000."""

SPINS = 10_000
"""How often a thread of PyTorch looks for work before it sleeps: for half a millisecond, more than lies between two
steps of a model."""


class ErrorBoundary(TyperGroup):
    """Turns errors that a person can act on into one line on stderr and exit code 1; bugs keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        warnings.showwarning = _show_warning
        warnings.simplefilter("always", R2TuningWarning)
        try:
            return super().invoke(ctx)
        except R2TuningError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from error
        except ModuleNotFoundError as error:
            if error.name not in EXTRA_OF:
                raise
            print(
                f"error: {error.name} is not installed; pip install 'r2tuning[{EXTRA_OF[error.name]}]'", file=sys.stderr
            )
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            raise typer.Exit(130) from None
        except BrokenPipeError:  # such as `r2tuning … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001  (the signature is Python's)
    line: str | None = None,
) -> None:
    """Ours are for people: one line. Others show where they come from, as usual."""
    if issubclass(category, R2TuningWarning):
        print(f"warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


app = typer.Typer(
    cls=ErrorBoundary,
    help="Find the moment: ask a video for what you are looking for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(ground)
app.command()(highlights)
app.command()(summarize)
app.command()(extract)
app.command()(models)
app.command()(convert)
app.command()(download)
app.command()(train)
app.command()(evaluate)
app.command()(calibrate)
app.command()(score)
app.command()(reproduce)
app.command()(ablate)
app.command()(plot)
app.command()(attention)
app.command()(synthesize)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"r2tuning {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Find the moment: ask a video for what you are looking for."""


def run() -> None:
    """Entry point of the ``r2tuning`` command.

    The objects that importing PyTorch makes live as long as the process, so looking for garbage among them over and
    over, and once more at the end, is in vain: it took a quarter of the seconds of a short command. PyTorch's threads
    keep their cores busy while they wait, by default for many milliseconds, in which videos could be decoded.
    """
    gc.set_threshold(GARBAGE_THRESHOLD)
    atexit.register(gc.freeze)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    app()
