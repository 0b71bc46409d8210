"""A grounding as a table for people to read in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from r2tuning.output.text.labels import format_clock, show_on_one_line
from r2tuning.results import Grounding, Summary
from r2tuning.types import Moment

_BAR_CELLS = 20


def print_grounding(result: Grounding, console: Console, top: int = 5) -> None:
    """Prints query, video and the best moments, with a line for everything that limits the answer.

    A result without moments (saliency models give none) shows the highest peaks of its saliency curve, and
    says so. Characters that the terminal cannot show are escaped; piped output has no colours.

    Args:
        result: The grounding.
        console: Where to print.
        top: Most rows to show, at least 1.

    Raises:
        ValueError: If ``top`` is less than 1.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1 row, not {top}")
    _print_heading(result, console)
    rows = result.moments[:top] or result.highlights(top)
    absent = result.present is False
    if absent:
        _print_line(console, f"Probably not in this video ({describe_presence(result)}).", "bold")
    if not result.moments:
        shown = "showing the highest peaks of its saliency" if rows else "and its saliency is nowhere above 0"
        _print_line(console, f"No moments for this query, {shown}.")
    if rows:
        console.print(_table(rows, "rank", ascii_only=console.options.ascii_only, dim=absent))
    if len(result.moments) > top:
        _print_line(console, f"Best {top} of {len(result.moments)} moments.", "dim")


def print_summary(summary: Summary, console: Console) -> None:
    """Prints query, video, the shots in time order, and how much of the budget they take.

    Args:
        summary: The summary.
        console: Where to print.
    """
    _print_heading(summary.answer, console)
    if all(shot.score <= 0 for shot in summary.shots):
        _print_line(console, "Nothing of the video scores above 0: the shots are only the least unlike.")
    console.print(_table(summary.shots, "shot", ascii_only=console.options.ascii_only))
    length, budget = format_clock(summary.length), format_clock(summary.budget)
    _print_line(console, f"Summary: {length} of at most {budget}.", "dim")


def _print_heading(result: Grounding, console: Console) -> None:
    asked = f"Query: {result.query}" if result.query else "No query: frames are scored by how typical and new they are"
    _print_line(console, asked, "bold")
    _print_line(console, f"Video: {result.video} ({format_clock(result.duration)}, model {result.model})")
    for note in list_notes(result):
        _print_line(console, note, "dim")


def describe_presence(result: Grounding) -> str:
    """How likely the video has what is asked for, of a model that was calibrated for it."""
    return f"presence {result.presence:.2f}, threshold {result.presence_threshold:.2f}"


def list_notes(result: Grounding) -> list[str]:
    """A sentence for everything that limits an answer, or speaks for it."""
    notes = []
    if result.present:
        notes.append(f"Probably in this video ({describe_presence(result)}).")
    if result.sampling == "keyframe":
        notes.append("Only key frames were read: times are approximate.")
    if result.video_truncated:
        covered = format_clock(result.duration)
        notes.append(f"The file ends early or is damaged: the answer covers the first {covered} of it.")
    if result.query_truncated:
        notes.append("The query is too long for the text encoder: only its beginning was used.")
    if result.windows > 1:
        notes.append(f"The video is long: it was covered with {result.windows} overlapping windows.")
    return notes


def _table(rows: list[Moment], number: str, *, ascii_only: bool, dim: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, row_styles=["dim"] if dim else [])
    for name in (number, "start", "end", "length", "score"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("", overflow="fold", style="cyan")
    for place, moment in enumerate(rows, start=1):
        cells = round(min(max(moment.score, 0.0), 1.0) * _BAR_CELLS)
        table.add_row(
            str(place),
            format_clock(max(moment.start, 0.0)),  # players show the little that may lie before 0 as 0
            format_clock(max(moment.end, 0.0)),
            format_clock(moment.end - moment.start),
            f"{moment.score:.3f}",
            ("#" if ascii_only else "█") * cells,
        )
    return table


def _print_line(console: Console, text: str, style: str = "") -> None:
    # Escaping what the terminal's encoding lacks: rich would end in a UnicodeEncodeError.
    shown = show_on_one_line(text).encode(console.encoding, "backslashreplace").decode(console.encoding)
    console.print(Text(shown, style=style, overflow="fold"))
