"""Results as a table for people, in a terminal or in a text file."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from r2tuning.errors import show_on_one_line
from r2tuning.output.text import format_clock
from r2tuning.results import Grounding, Summary
from r2tuning.types import Moment


def to_table(results: Sequence[Grounding | Summary], top: int = 5) -> str:
    """Writes what `print_results` prints, as plain text."""
    file = io.StringIO()
    console = Console(file=file, width=120, color_system=None, legacy_windows=False)
    print_results(results, console, top)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def print_results(results: Sequence[Grounding | Summary], console: Console, top: int = 5) -> None:
    """Prints answers or summaries below each other."""
    for result in results:
        if isinstance(result, Summary):
            print_summary(result, console)
        else:
            print_grounding(result, console, top)


def print_grounding(result: Grounding, console: Console, top: int = 5) -> None:
    """Prints query, video, notes and the best moments, or the highest peaks of saliency where there are no moments."""
    _print_heading(result, console)
    rows = result.moments[:top] or result.find_peaks(top)
    if not result.moments and not any(note.kind == "threshold" for note in result.notes):
        shown = "showing the highest peaks of its saliency" if rows else "and its saliency is nowhere above 0"
        _print_line(console, f"No moments for this query, {shown}.")
    if rows:
        console.print(_make_table(rows, "rank", console, dim=result.present is False))
    if len(result.moments) > top:
        _print_line(console, f"Best {top} of {len(result.moments)} moments.", "dim")


def print_summary(summary: Summary, console: Console) -> None:
    """Prints query, video, notes, the shots in time order, and how much of the budget they use."""
    _print_heading(summary.answer, console)
    if all(shot.score <= 0 for shot in summary.shots):
        _print_line(console, "Nothing in the video scores above 0: these shots are only the least unlike.")
    console.print(_make_table(summary.shots, "shot", console))
    length, budget = format_clock(summary.length), format_clock(summary.budget)
    _print_line(console, f"Summary: {length} of at most {budget}.", "dim")


def _print_heading(result: Grounding, console: Console) -> None:
    query = f"Query: {result.query}" if result.query else "No query: frames are scored by how typical and new they are"
    _print_line(console, query, "bold")
    _print_line(console, f"Video: {result.video} ({format_clock(result.duration)}, model {result.model})")
    for note in result.notes:
        _print_line(console, note.text, "bold" if note.kind in ("threshold", "domain", "absent") else "dim")


def _make_table(rows: list[Moment], number: str, console: Console, *, dim: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, row_styles=["dim"] if dim else [])
    for name in (number, "start", "end", "length", "score"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("", overflow="fold", style="cyan")
    # The other columns take 44 places where no time has hours; a bar that does not fit would wrap.
    longest = max(len(format_clock(max(moment.end, 0.0))) for moment in rows)
    most = min(20, max(console.width - 44 - 3 * max(longest - 6, 0), 0))
    for place, moment in enumerate(rows, start=1):
        cells = round(most * min(max(moment.score, 0.0), 1.0))
        table.add_row(
            str(place),
            format_clock(max(moment.start, 0.0)),  # players show the little that may lie before 0 as 0
            format_clock(max(moment.end, 0.0)),
            format_clock(moment.end - moment.start),
            f"{moment.score:.3f}",
            ("#" if console.options.ascii_only else "█") * cells,
        )
    return table


def _print_line(console: Console, text: str, style: str = "") -> None:
    # Escaping what the terminal's encoding lacks: rich would end in a UnicodeEncodeError.
    shown = show_on_one_line(text).encode(console.encoding, "backslashreplace").decode(console.encoding)
    console.print(Text(shown, style=style, overflow="fold"))
