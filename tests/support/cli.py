"""Runs commands as a user does, inside this process."""

from typer.testing import CliRunner, Result

from r2tuning.cli.main import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(result: Result, code: int, *parts: str) -> None:
    """Checks that stdout is empty and stderr says what is wrong, in one line unless the usage is explained."""
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    shown = " ".join(result.stderr.replace("│", " ").split())
    for part in parts:
        assert part in shown
    if code == 1:
        assert len(result.stderr.strip().splitlines()) == 1
