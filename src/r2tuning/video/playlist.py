"""HLS playlists and FFmpeg's lists of files: which files they name, and what is missing.

FFmpeg passes over missing segments in silence, waits for more where a playlist does not say that it ends, and cannot be
interrupted while it waits. RFC 8216 describes the format.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from r2tuning.errors import VideoError

_HLS = b"#EXTM3U"
_CONCAT = b"ffconcat"
# Bytes. Longer files are no playlists.
_LONGEST = 16 << 20
# Playlists of playlists go no deeper than this: a list of qualities, then one of segments.
_DEEPEST = 2


@dataclass
class Playlist:
    """A playlist of local files.

    Attributes:
        text: The playlist with absolute paths, said to end.
        missing: Files that it names, but which do not exist.
        finished: Whether it says itself that it ends.
        seconds: The length of its segments, including missing ones; 0 if it does not say.
    """

    text: str = ""
    missing: list[str] = field(default_factory=list)
    finished: bool = True
    seconds: float = 0.0


def read_playlist(path: Path) -> Playlist | None:
    """Reads a playlist; None if the file is something else.

    Raises:
        VideoError: It names what is no regular file, or it is encrypted and the key is not there.
    """
    with path.open("rb") as file:
        head = file.read(16).removeprefix(b"\xef\xbb\xbf")
        if not head.startswith((_HLS, _CONCAT)) or path.stat().st_size > _LONGEST:
            return None
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return _read_hls(path, text) if head.startswith(_HLS) else _read_concat(path, text)


@contextmanager
def finite_copy(path: Path, playlist: Playlist | None) -> Iterator[Path]:
    """Yields what FFmpeg can open without waiting: the file itself, or a temporary playlist that ends."""
    if playlist is None or playlist.finished:
        yield path
        return
    with TemporaryDirectory(prefix="r2tuning-") as folder:
        copy = Path(folder) / "playlist.m3u8"
        copy.write_text(playlist.text, encoding="utf-8")
        yield copy


def _read_hls(path: Path, text: str, depth: int = 1) -> Playlist:
    found = Playlist()
    lines = []
    nested = segments = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("#EXT-X-KEY") and "METHOD=NONE" not in line:
            _check_key(path, line)
        if line.startswith("#EXTINF:"):
            number = re.match(r"#EXTINF:\s*([0-9]{1,7}(?:\.[0-9]{1,9})?)", line)
            found.seconds += float(number[1]) if number else 0.0
            segments = True
        nested |= line.startswith("#EXT-X-STREAM-INF")
        if line and not line.startswith("#"):
            member = _resolve(path, line, found)
            line = str(member)
            if nested and member.is_file() and member.suffix.lower() in (".m3u8", ".m3u"):
                if depth == _DEEPEST or member.stat().st_size > _LONGEST:
                    raise VideoError(
                        f"{path} names the playlist {member.name}, which is no list of segments; open another"
                    )
                inner = _read_hls(member, member.read_text(encoding="utf-8-sig", errors="replace"), depth + 1)
                found.missing += inner.missing
                if not inner.finished:
                    raise VideoError(
                        f"{path} names {member.name}, which has no #EXT-X-ENDLIST; add that line, or open "
                        f"{member.name} itself"
                    )
        elif 'URI="' in line:
            line = re.sub(r'URI="([^"]*)"', lambda match: f'URI="{_resolve(path, match[1], found)}"', line)
        lines.append(line)
    members = sum(bool(line) and not line.startswith("#") for line in lines)
    if members and len(found.missing) >= members:
        raise VideoError(f"{path} names {members} files, such as {found.missing[0]}, and none of them exists")
    found.finished = nested or not segments or "#EXT-X-ENDLIST" in text
    found.text = "\n".join([*lines, "#EXT-X-ENDLIST", ""])
    return found


def _read_concat(path: Path, text: str) -> Playlist:
    found = Playlist()
    for line in text.splitlines():
        words = line.strip().split(maxsplit=1)
        if len(words) == 2 and words[0] == "file":
            _resolve(path, words[1].strip("'\""), found)
    return found


def _resolve(path: Path, name: str, found: Playlist) -> Path:
    """The file that a playlist names; notes it if it is missing."""
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+):", name)
    if scheme and scheme[1].lower() != "file":
        raise VideoError(f"{path} cannot be read as video: it names {name[:80]}, and only local files are read")
    member = path.absolute().parent / re.sub(r"^file:(//)?", "", name)
    try:
        mode = member.stat().st_mode
    except (OSError, ValueError):
        found.missing.append(name[:80])
        return member
    if not stat.S_ISREG(mode):
        raise VideoError(f"{path} names {name[:80]}, which is not a regular file; save it to disk first")
    return member


def _check_key(path: Path, line: str) -> None:
    method = re.search(r"METHOD=([A-Z0-9-]+)", line)
    uri = re.search(r'URI="([^"]*)"', line)
    name = uri[1] if uri else ""
    key = path.absolute().parent / re.sub(r"^file:(//)?", "", name)
    if not name or not key.is_file():
        raise VideoError(
            f"{path} is encrypted ({method[1] if method else 'unknown method'}) and its key {name[:80] or '(none)'} "
            f"is not a local file; decrypt the video first, or put the key there"
        )
