"""``r2tuning plot`` and ``attention``: charts of results, runs and of what a model looks at."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.ablation.table import HEADINGS, shorten_keys
from r2tuning.cli import options, videos
from r2tuning.cli.options import ForceOption
from r2tuning.errors import DataError, QueryError, VideoError
from r2tuning.files import parse_json, read_file

if TYPE_CHECKING:
    import numpy as np

    from r2tuning.features import EncodedVideo
    from r2tuning.results import Grounding
    from r2tuning.types import PatchAttention


TABLE = "table.json"


def plot(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Answers (.json files of `ground`), run folders of `train`, or one table of `ablate` (or its folder).",
            metavar="SOURCE…",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .svg or .pdf.")],
    query: Annotated[
        str | None, typer.Option(help="Of answers: which query to draw, where files hold several.")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="Of answers: annotations with the true moments, custom or in the format of QVHighlights."),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=50, help="Of answers: most moments of each.")] = 3,
    force: ForceOption = False,
) -> None:
    """Draw answers of several models together, curves of training runs, or scores of an ablation.

    Example: r2tuning plot mine.json theirs.json --truth val.jsonl -o compared.png
    """
    from r2tuning.output.charts import check_plot_target

    check_plot_target(output, force=force)
    kinds = {_find_kind(source) for source in sources}
    if len(kinds) > 1 or (kinds == {"table"} and len(sources) > 1):
        names = ", ".join(map(str, sources))
        raise DataError(f"{names}: cannot share a picture; give answers, run folders, or one table")
    if kinds != {"answers"} and (query is not None or truth is not None):
        raise typer.BadParameter("only answers have a query and a truth", param_hint="--query, --truth")
    if kinds == {"table"}:
        _plot_table(sources[0], output, force)
    elif kinds == {"run"}:
        _plot_runs(sources, output, force)
    else:
        _plot_answers(sources, output, query, truth, top_k, force)
    typer.echo(f"Plot: {output}", err=True)


def _find_kind(source: Path) -> str:
    if source.is_dir():
        return "table" if (source / TABLE).is_file() else "run"
    try:
        return "table" if isinstance(parse_json(read_file(source, DataError, "check the path")), dict) else "answers"
    except (DataError, ValueError):
        return "answers"  # its reader says what is wrong


def _plot_answers(
    sources: Sequence[Path], output: Path, query: str | None, truth: Path | None, top_k: int, force: bool
) -> None:
    from r2tuning.output.charts.grounding import MOST_ANSWERS, plot_comparison
    from r2tuning.output.charts.timeline import read_thumbnails
    from r2tuning.output.text.json import read_answers

    if len(sources) > MOST_ANSWERS:
        raise DataError(f"{len(sources)} files of answers; give at most {MOST_ANSWERS}")
    chosen = [_choose(source, read_answers(source), query) for source in sources]
    first = {"query": chosen[0].query, "video": Path(chosen[0].video).name}
    for source, result in zip(sources, chosen, strict=True):
        for what, mine in (("query", result.query), ("video", Path(result.video).name)):
            if mine != first[what]:
                other = f"that of {sources[0]} is {first[what]!r}"
                raise DataError(f"{source}: its {what} is {mine!r}, {other}; give the same")
    labels = [result.model for result in chosen]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({source.stem})" for label, source in zip(labels, sources, strict=True)]
    spans = () if truth is None else _find_truth(truth, chosen[0])
    frames = read_thumbnails(chosen[0])
    plot_comparison(chosen, labels, output, truth=spans, thumbnails=frames, top=top_k, force=force)


def _choose(source: Path, answers: list[Grounding], query: str | None) -> Grounding:
    """The answer to a query; the only one where no query is named."""
    found = [answer for answer in answers if query in (None, answer.query)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(repr(answer.query) for answer in answers[:5]) + (" …" if len(answers) > 5 else "")
    if not found:
        raise DataError(f"{source}: has no answer to {query!r}; its queries are {known}")
    raise DataError(f"{source}: has {len(found)} answers; choose one of {known} with --query")


def _find_truth(path: Path, result: Grounding) -> tuple[tuple[float, float], ...]:
    """True moments of the answer's query on its video, or on the only other video that has it."""
    from r2tuning.datasets import Annotation, find_benchmark, load_annotations, load_custom
    from r2tuning.datasets.entries import read_json

    annotations: list[Annotation]
    as_qvhighlights = path.suffix.lower() != ".csv" and "relevant_windows" in read_json(path)[0].values
    annotations = load_annotations(path, find_benchmark("qvhighlights")) if as_qvhighlights else load_custom(path)
    same = [annotation for annotation in annotations if annotation.query.strip() == result.query.strip()]
    names = {Path(result.video).name, Path(result.video).stem}
    mine = [annotation for annotation in same if Path(annotation.vid).name in names]
    if len(mine or same) != 1:
        about = f"{result.query!r} in {Path(result.video).name}"
        raise DataError(f"{path}: {len(mine or same)} annotations are about {about}; give a file that has one")
    (found,) = mine or same
    if not mine:
        typer.echo(f"Truth: of the video {found.vid}, the only one that has this query", err=True)
    return found.moments


def _plot_runs(sources: Sequence[Path], output: Path, force: bool) -> None:
    from r2tuning.output.charts.experiments import MOST_RUNS, RunCurves, plot_curves
    from r2tuning.training.run_folder import read_run

    if len(sources) > MOST_RUNS:
        raise DataError(f"{len(sources)} runs; give at most {MOST_RUNS}")
    runs = [read_run(source, str(source)) for source in sources]
    if not any(run.losses for run in runs):
        raise DataError(f"{sources[0]}: nothing is logged yet; wait for the first steps")
    shown = []
    for run in runs:
        losses = {name.replace("_", " "): curve for name, curve in run.losses.items()}
        # The scores that the paper's tables have, or all if there are none of them.
        scores = {heading: run.scores[name] for name, heading in HEADINGS.items() if name in run.scores} or run.scores
        shown.append(RunCurves(run.label, losses, scores))
    plot_curves(shown, output, force=force)


def _plot_table(source: Path, output: Path, force: bool) -> None:
    from r2tuning.ablation.table import read_table
    from r2tuning.output.charts.experiments import Bar, BarRow, plot_bars

    file = source / TABLE if source.is_dir() else source
    cells = read_table(file)
    found = dict.fromkeys(metric for cell in cells for metric in cell.spread)
    if not found:
        raise DataError(f"{file}: has no scores; run r2tuning ablate again")
    metrics = [metric for metric in HEADINGS if metric in found] or list(found)
    rows = []
    for cell in cells:
        keys = shorten_keys(list(cell.settings))
        label = ", ".join(f"{key} = {value}" for key, value in zip(keys, cell.settings.values(), strict=True))
        spreads = {HEADINGS.get(name, name): cell.spread[name] for name in metrics if name in cell.spread}
        bars = {name: Bar(spread.mean, spread.deviation) for name, spread in spreads.items()}
        rows.append(BarRow(label or "recipe", bars))
    plot_bars(f"{file.parent.name or file.stem}: {len(rows)} settings", rows, output, force=force)


def attention(
    video: options.VideoArgument,
    query: Annotated[str, typer.Argument(help="What to look for; a sentence.")],
    model: options.ModelOption = "qvhighlights",
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = None,
    frames: Annotated[
        int, typer.Option(min=1, max=6, help="How many frames to show, evenly over the best moment.")
    ] = 4,
    at: Annotated[
        list[float] | None, typer.Option(help="Show the frame at this second instead. May be repeated.")
    ] = None,
    words: Annotated[
        str | None, typer.Option(help="Words to show, separated by commas; by default the first content words.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .svg or .pdf.")] = Path(
        "attention.png"
    ),
    force: options.ForceOption = False,
) -> None:
    """Draw how much each word of a query attends to each patch of some frames, in every refinement step.

    Example: r2tuning attention trip.mp4 "the dog catches the frisbee" --at 12 --at 15
    """
    from r2tuning.attention import find_attention
    from r2tuning.output.charts import check_plot_target
    from r2tuning.output.charts.attention import MOST_FRAMES, choose_words, plot_attention

    check_plot_target(output, force=force)
    if at and len(at) > MOST_FRAMES:
        raise typer.BadParameter(f"{len(at)} frames would be too small to see; give at most {MOST_FRAMES}")
    request = videos.Request([video], [query])
    grounder = videos.open_model(request, model, backbone, device)
    encoded = videos.encode(grounder, video)
    grounder.backbone.release()  # the next steps need the memory
    facts = encoded.facts
    for time in at or ():
        if not facts.start <= time <= facts.start + facts.duration:
            raise typer.BadParameter(
                f"{time:g} s is outside the video, which lasts from {facts.start:g} to "
                f"{facts.start + facts.duration:g} s",
                param_hint="--at",
            )
    if not at:
        result = grounder.ground(encoded, query, top_k=1)
        extent = [(best.start, best.end) for best in result.moments] or [(result.start, result.start + result.duration)]
        begin, end = extent[0]
        at = [begin + (end - begin) * (number + 0.5) / frames for number in range(frames)]
    found = find_attention(grounder, encoded, query, at)
    chosen = choose_words(found.words) if words is None else _find_words(found, words)
    name = f"{Path(encoded.facts.video).name}, model {grounder.config.name}"
    plot_attention(found, _read_frames(encoded, found), output, words=chosen, name=name, force=force)
    typer.echo(f"Plot: {output}", err=True)


def _find_words(found: PatchAttention, words: str) -> list[int]:
    known = [word.lower() for word in found.words]
    wanted = [word.strip().lower() for word in words.split(",") if word.strip()]
    for word in wanted:
        if word not in known:
            raise QueryError(f"{word!r} is not a word of the query; choose from {', '.join(found.words)}")
    if not wanted:
        raise QueryError(f"--words names no word; choose from {', '.join(found.words)}")
    return [index for index, word in enumerate(known) if word in wanted]


def _read_frames(encoded: EncodedVideo, found: PatchAttention) -> list[np.ndarray]:
    """The frames that the model saw, sampled again."""
    from r2tuning.video import sample_frames

    facts = encoded.facts
    wanted = [int((time - facts.start) * facts.fps) for time in found.times.tolist()]  # in order
    with sample_frames(facts.video, facts.fps, sampling=facts.sampling) as stream:
        frames = islice((frame for batch in stream for frame in batch.pixels), wanted[-1] + 1)
        shown = {index: frame.transpose(1, 2, 0) for index, frame in enumerate(frames) if index in wanted}
    if len(shown) < len(set(wanted)):
        raise VideoError(f"{facts.video}: no longer has a frame at {wanted[-1] / facts.fps:g} s; encode it again")
    return [shown[index] for index in wanted]
