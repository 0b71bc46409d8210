"""``r2tuning doctor``: what is wrong on this machine, and the remedy."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from r2tuning.cli.download import show_bytes
from r2tuning.cli.options import ModelOption, count, find_folder
from r2tuning.errors import show_on_one_line

STYLES = {"ok": "green", "note": "cyan", "problem": "yellow", "error": "bold red"}
"""Of the first word of a line, by level."""


def doctor(
    model: ModelOption = "qvhighlights",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Say what this machine has, what is wrong with it, and what to do; exit 0 if it can ground a video now.

    Example: r2tuning doctor --model demo
    """
    from r2tuning.diagnosis import diagnose

    found = diagnose(model, find_folder(None), show_bytes)
    if json:
        content = {"ready": found.ready, "model": found.model, "findings": list(map(asdict, found.findings))}
        typer.echo(json_module.dumps(content, indent=2).encode(), nl=False)
        typer.echo()
    else:
        console = Console(highlight=False)
        for finding in found.findings:
            line = f"{finding.topic}: {finding.value}" + f" -> {finding.remedy}" * bool(finding.remedy)
            label = Text(f"{finding.level:8}", STYLES[finding.level])
            console.print(label.append(show_on_one_line(line), "default"), soft_wrap=True)
        errors = sum(finding.level == "error" for finding in found.findings)
        verdict = f"not ready: see the {count(errors, 'error')} above" if errors else "a video can be grounded now"
        console.print(f"\n{found.model}: {verdict}", soft_wrap=True, markup=False)
    if not found.ready:
        raise typer.Exit(1)
