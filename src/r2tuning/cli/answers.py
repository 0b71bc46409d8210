"""What ``r2tuning ground`` leaves behind: a table, and the answers in files of other programs' formats."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from r2tuning.errors import OutputError, VideoError
from r2tuning.files import check_target, write_atomically
from r2tuning.output.registry import FRAMED, Format, find_format, load_framed, write_format

if TYPE_CHECKING:
    from r2tuning.results import Grounding
    from r2tuning.types import VideoInfo

STDOUT = "-"


@dataclass(frozen=True)
class AnswerFile:
    """A file to write answers to, ``-`` for stdout, and its format."""

    path: str
    form: Format


def plan_files(outputs: Sequence[str], form: Format | None, json: str | None, *, force: bool) -> list[AnswerFile]:
    """Checks, before a long computation, what is to be written.

    Args:
        outputs: Values of ``--output``.
        form: The format of all of them; None for that of each file's ending.
        json: Value of ``--json``, one more file.
        force: Whether existing files may be replaced.

    Raises:
        OutputError: If an ending names no format or a file may not be written.
        ModuleNotFoundError: If a format needs what is not installed.
    """
    if form is not None and not outputs:
        raise typer.BadParameter("needs a file to write: give --output too", param_hint="--format")
    if STDOUT in outputs and form is None:
        raise typer.BadParameter("stdout has no ending that names a format: give --format too", param_hint="--output")
    files = [AnswerFile(path, form or find_format(path)) for path in outputs]
    if json is not None:
        files.append(AnswerFile(json, "json"))
    targets = [file.path if file.path == STDOUT else os.path.realpath(file.path) for file in files]
    for number, (file, target) in enumerate(zip(files, targets, strict=True)):
        if target in targets[:number]:
            raise typer.BadParameter(f"{file.path} is to be written twice", param_hint="--output")
        if file.path != STDOUT:
            check_target(file.path, force=force)
        if file.form in FRAMED:
            load_framed(file.form)
    return files


def read_facts(files: Sequence[AnswerFile], video: str) -> VideoInfo | None:
    """Reads the facts about the video that formats need; None where none does.

    Raises:
        OutputError: If one does, and the video cannot be read (any more).
    """
    framed = [file.form for file in files if file.form in FRAMED]
    if not framed:
        return None
    from r2tuning.video import probe

    try:
        return probe(video)
    except VideoError as error:
        raise OutputError(
            f"{error} ({framed[0]} counts frames, so it needs the video and not only features)"
        ) from error


def report_answers(
    results: list[Grounding], files: Sequence[AnswerFile], facts: VideoInfo | None, top_k: int, *, force: bool
) -> None:
    """Writes the answers to the files, and prints them as a table unless stdout is one of the files."""
    for file in files:
        content = write_format(results, file.form, facts)
        if file.path == STDOUT:
            typer.echo(content.encode(), nl=False)  # UTF-8 whatever the terminal's encoding
        else:
            write_atomically(file.path, content, force=force)
    if not any(file.path == STDOUT for file in files):
        from r2tuning.output.text.terminal import print_grounding

        console = Console()
        for result in results:
            print_grounding(result, console, top_k)
