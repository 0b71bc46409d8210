"""Answers as one HTML page for a browser; it needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import mimetypes
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote

from r2tuning.errors import OutputError, VideoError, show_on_one_line
from r2tuning.files import read_file, relate, write_atomically
from r2tuning.output.registry import WRITERS, write_format
from r2tuning.results import Grounding

MAX_EMBEDDED = 20_000_000
"""Bytes of a video that a page may hold: as text they grow by a third, and Firefox takes no more than 32 MiB."""

_OFFERED = {"json": "application/json", "csv": "text/csv", "srt": "application/x-subrip"}
"""Formats to download and their media types; the page reads its answers from the first."""

_ASSETS = files("r2tuning") / "assets"


def check_embedding(*videos: str) -> None:
    """Checks that files are videos, of which a page may show everything, and together small enough for a page."""
    from r2tuning.video import probe

    total, video = 0, ""
    try:
        for video in videos:
            total += Path(video).stat().st_size
            if total > MAX_EMBEDDED:
                what = f"{video} has" if len(videos) == 1 else f"the videos up to {video} have"
                limit = f"{MAX_EMBEDDED // 10**6} MB"
                raise OutputError(f"{what} {total / 1e6:.1f} MB, and a page holds up to {limit}: leave --embed away")
            probe(video)
    except (VideoError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"{video} cannot be embedded ({reason}): put it there, or leave --embed away") from None


def write_page(
    results: Sequence[Grounding],
    path: str | os.PathLike[str],
    *,
    embed: bool = False,
    top: int = 5,
    names: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Writes the page: the player, and for each query a timeline to click on, the moments, and the notes.

    Args:
        results: One or more answers, about one video or several.
        path: The file to write.
        embed: Whether the page holds the videos themselves; otherwise it links to the file by a relative path.
        top: Most peaks of saliency to show for an answer without moments.
        names: What stands for the paths of videos in the files that the page offers, by path.
        force: Whether an existing file may be replaced.
    """
    videos, folder = list(dict.fromkeys(result.video for result in results)), Path(path).parent
    if embed:
        for result in {result.video: result for result in results}.values():
            result.check_video()
        check_embedding(*videos)
    first, *others = (_embed(video) if embed else link_file(video, folder) for video in videos)
    style = _read("shared/page.css") + _read("report/page.css")
    script = _read("shared/timeline.js") + _read("report/page.js")
    stem = show_on_one_line(Path(path).stem)
    titles = [show_on_one_line(Path(video).name) for video in videos]
    links = [None if embed else show_on_one_line(relate(video, folder)) for video in videos]
    data = {
        "videos": [
            {"name": name, "link": link, "source": source}
            for name, link, source in zip(titles, links, [None, *others], strict=True)  # the player has the first
        ],
        "of": [videos.index(result.video) for result in results],  # which video each answer is about
        "files": [
            {"name": f"{stem}.{form}", "type": kind, "text": write_format(results, form, names=names)}
            for form, kind in _OFFERED.items()
            if len(videos) == 1 or WRITERS[form].many_videos
        ],
        # An answer without moments shows peaks of its saliency.
        "peaks": [[vars(peak) for peak in r.find_peaks(top)] for r in results],
    }
    page = Template(_read("report/page.html")).substitute(
        policy=_write_policy(style, script, media="data:" if embed else "'self' file:"),
        title=html.escape(titles[0] if len(titles) == 1 else f"{len(titles)} videos: {', '.join(titles)}"),
        source=first,
        style=style,
        script=script,
        # In a script element, only < can begin what ends it or hides its end.
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    )
    write_atomically(path, page, force=force)


def _read(name: str) -> str:
    return _ASSETS.joinpath(name).read_text(encoding="utf-8")


def _embed(video: str) -> str:
    kind = mimetypes.guess_type(f"video{Path(video).suffix}")[0] or "application/octet-stream"
    content = read_file(video, OutputError, "leave --embed away", MAX_EMBEDDED)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def link_file(path: str, folder: Path) -> str:
    """The URL by which a page in a folder reaches a file: relative, or with ``file:`` if it is on another drive.

    Examples:
        >>> link_file("videos/50% off? #1.mp4", Path("pages"))
        '../videos/50%25%20off%3F%20%231.mp4'
    """
    relative = relate(path, folder)
    if Path(relative).is_absolute():
        return Path(relative).as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))  # bytes, since names need not be UTF-8


def _write_policy(style: str, script: str, media: str) -> str:
    """What the page may load and run: its own style and script, known by hash, and the video."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; media-src {media}; "
        "img-src data:; "  # the icon
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
