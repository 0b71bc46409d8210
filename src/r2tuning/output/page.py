"""Answers as one HTML page for a browser; it needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import mimetypes
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote

from r2tuning.errors import OutputError, VideoError, show_on_one_line
from r2tuning.files import read_file, relate, write_atomically
from r2tuning.output.registry import write_format
from r2tuning.results import Grounding

MAX_EMBEDDED = 20_000_000
"""Bytes of a video that a page may hold: as text they grow by a third, and Firefox takes no more than 32 MiB."""

_OFFERED = {"json": "application/json", "csv": "text/csv", "srt": "application/x-subrip"}
"""Formats to download and their media types; the page reads its answers from the first."""

_ASSETS = files("r2tuning") / "assets" / "report"


def check_embedding(video: str) -> None:
    """Checks that a file is a video, of which a page may show everything, and small enough for a page."""
    from r2tuning.video import probe

    try:
        size = Path(video).stat().st_size
        if size > MAX_EMBEDDED:
            limit = f"{MAX_EMBEDDED // 10**6} MB"
            raise OutputError(f"{video} has {size / 1e6:.1f} MB, and a page holds up to {limit}: leave --embed away")
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
    force: bool = False,
) -> None:
    """Writes the page: the player, and for each query a timeline to click on, the moments, and the notes.

    Args:
        results: One or more answers about one video.
        path: The file to write.
        embed: Whether the page holds the video itself; otherwise it links to the file by a relative path.
        top: Most peaks of saliency to show for an answer without moments.
        force: Whether an existing file may be replaced.
    """
    video, folder = results[0].video, Path(path).parent
    source = link_file(video, folder)
    if embed:
        results[0].check_video()
        check_embedding(video)
        kind = mimetypes.guess_type(f"video{Path(video).suffix}")[0] or "application/octet-stream"
        content = read_file(video, OutputError, "leave --embed away", MAX_EMBEDDED)
        source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    style, script = (_ASSETS.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    name = show_on_one_line(Path(path).stem)
    data = {
        "link": None if embed else show_on_one_line(relate(video, folder)),
        "files": [
            {"name": f"{name}.{form}", "type": kind, "text": write_format(results, form)}
            for form, kind in _OFFERED.items()
        ],
        # An answer without moments shows peaks of its saliency.
        "peaks": [[] if r.moments else [vars(peak) for peak in r.highlights(top)] for r in results],
    }
    page = Template(_ASSETS.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        policy=_write_policy(style, script, media="data:" if embed else "'self' file:"),
        title=html.escape(show_on_one_line(Path(video).name)),
        source=source,
        style=style,
        script=script,
        # In a script element, only < can begin what ends it or hides its end.
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    )
    write_atomically(path, page, force=force)


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
