"""What ``r2tuning ground`` cuts out of the video: clips, an animated picture, a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.progress import show_progress
from r2tuning.errors import OutputError, R2TuningError
from r2tuning.files import check_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from r2tuning.output.media.footage import Footage
    from r2tuning.results import Grounding

ClipsOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Cut each moment into an .mp4 of its own in this folder.")
]
FastOption = Annotated[
    bool, typer.Option("--fast", help="Copy clips as stored: at once, but from the key frame before the moment on.")
]
GifOption = Annotated[
    Path | None,
    typer.Option(help="Write the best moment as an animated .gif; numbered if there are more queries."),
]
SheetOption = Annotated[
    Path | None, typer.Option(help="Draw frames of each moment, in rows, to this .png, .svg or .pdf.")
]


@dataclass(frozen=True)
class Cutting:
    """What is to be cut.

    Attributes:
        clips: The folder for clips.
        fast: Whether clips are copied from the key frame before.
        gifs: An animated picture for each query, or none.
        sheet: The contact sheet.
        force: Whether existing files may be replaced.
    """

    clips: Path | None
    fast: bool
    gifs: list[Path]
    sheet: Path | None
    force: bool

    def check(self) -> None:
        """Refuses, before a long computation, what cannot be written.

        Raises:
            OutputError: A file or the folder cannot be written.
        """
        if self.fast and self.clips is None:
            raise typer.BadParameter("copies clips; it needs --clips DIR", param_hint="--fast")
        if self.clips is not None:
            # A folder that is there must take files; one that is not must be makeable.
            check_target(self.clips / "clip.mp4" if self.clips.is_dir() else self.clips, force=True)
            if self.clips.exists() and not self.clips.is_dir():
                raise OutputError(f"{self.clips} is a file: give a folder for the clips")
        if self.gifs:
            from r2tuning.output.media.gif import check_gif_target

            for gif in self.gifs:
                check_gif_target(gif, force=self.force)
        if self.sheet is not None:
            from r2tuning.output.charts.figure import check_plot_target

            check_plot_target(self.sheet, force=self.force)

    def cut(self, results: Sequence[Grounding]) -> None:
        """Cuts everything out of the video that the answers are about.

        Raises:
            R2TuningError: The video cannot be read; or some files could not be written, and the others are.
        """
        if self.clips is None and not self.gifs and self.sheet is None:
            return
        from r2tuning.output.media.footage import Footage

        footage = Footage(results[0].video)
        if self.sheet is not None:
            from r2tuning.output.media.sheet import write_sheet

            write_sheet(results, self.sheet, video=footage, force=self.force)
            typer.echo(f"Contact sheet: {self.sheet}", err=True)
        for gif, result in zip(self.gifs, results, strict=bool(self.gifs)):
            self._write_gif(footage, gif, result)
        if self.clips is not None:
            self._cut_clips(footage, self.clips, results)

    def _write_gif(self, footage: Footage, gif: Path, result: Grounding) -> None:
        from r2tuning.output.media.gif import write_gif

        if not result.moments:
            typer.echo(f"No {gif}: there is no moment to show", err=True)
            return
        best = result.moments[0]
        write_gif(footage, best.start, best.end, gif, force=self.force)
        typer.echo(f"GIF: {gif}", err=True)

    def _cut_clips(self, footage: Footage, folder: Path, results: Sequence[Grounding]) -> None:
        from r2tuning.output.media import cut
        from r2tuning.output.media.cut import name_clip

        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be created ({error.strerror}): choose another folder") from None
        moments = [(result.query, moment) for result in results for moment in result.moments]
        failures: list[str] = []
        with show_progress("Cutting", "clips") as progress:
            for number, (query, moment) in enumerate(moments, start=1):
                name = name_clip(number, len(moments), query, moment.start, moment.end)
                try:
                    cut(footage, moment.start, moment.end, folder / name, not self.fast, force=self.force)
                except R2TuningError as error:
                    failures.append(str(error))
                progress(number, len(moments))
        typer.echo(f"Clips: {len(moments) - len(failures)} in {folder}", err=True)
        if failures:
            for failure in failures:
                typer.echo(f"not cut: {failure}", err=True)
            raise OutputError(f"{len(failures)} of {len(moments)} clips could not be cut; they are listed above")
