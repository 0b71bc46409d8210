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
# Manifests that are not read, by how they begin: FFmpeg would open what they name, unchecked.
_OTHERS = {
    "a DASH manifest": re.compile(rb"\s*(?:<[^\0]*)?<(?:\w{1,9}:)?MPD\b"),
    "a Smooth Streaming manifest": re.compile(rb"\s*(?:<[^\0]*)?<SmoothStreamingMedia\b"),
    "an SDP description of a live stream": re.compile(rb"v=0\r?\n[^\0]*\n[cm]="),
    "a playlist for Windows Media Player": re.compile(rb"\s*<asx\b", re.IGNORECASE),
    "a playlist (PLS)": re.compile(rb"\s*\[playlist\]", re.IGNORECASE),
}
_HEAD = 2048
# Bytes. Longer files are no playlists.
_LONGEST = 16 << 20
# Bytes. FFmpeg cuts longer lines off.
_LONGEST_LINE = 4000
_KEY_LENGTH = 16
# Playlists of playlists go no deeper than this: a list of qualities, then one of segments.
_DEEPEST = 2


@dataclass
class Playlist:
    """A playlist of local files.

    Attributes:
        kind: FFmpeg's name of its format.
        text: The playlist with absolute paths, said to end.
        missing: Files that it names, but which do not exist.
        finished: Whether it says itself that it ends.
        seconds: The length of its segments, including missing ones; 0 if it does not say.
        key: The file that decrypts its segments, the last one if there are several; empty if they are not encrypted.
    """

    kind: str
    text: str = ""
    missing: list[str] = field(default_factory=list)
    finished: bool = True
    seconds: float = 0.0
    key: str = ""


def read_playlist(path: Path) -> Playlist | None:
    """Reads a playlist; None if the file is something else.

    Raises:
        VideoError: It names what is no regular file, it is encrypted and the key is not there, or it is a manifest of
            another kind.
    """
    head = _read_head(path)
    for name, pattern in _OTHERS.items():
        if pattern.match(head):
            raise VideoError(f"{path} is {name}, which is not read; save its video as one file, such as MP4 or MKV")
    if not head.startswith((_HLS, _CONCAT)):
        return None
    return _read_hls(path) if head.startswith(_HLS) else _read_concat(path)


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


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD).removeprefix(b"\xef\xbb\xbf")


def _read_lines(path: Path) -> list[str]:
    """Splits a playlist into lines as FFmpeg does."""
    if path.stat().st_size > _LONGEST:
        raise VideoError(f"{path} is a playlist of more than {_LONGEST >> 20} MiB; open a shorter one")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.rstrip(" \t\v\f") for line in re.split(r"[\r\n\0]", text)]
    if len(longest := max(lines, key=len)) > _LONGEST_LINE:
        raise VideoError(f"{path} is a playlist with a line of {len(longest):,} letters; shorten it")
    return lines


def _read_hls(path: Path, depth: int = 1) -> Playlist:
    found = Playlist("hls")
    lines = []
    segments = ended = False
    for line in _read_lines(path):
        if line.startswith("#EXT-X-KEY") and "METHOD=NONE" not in line:
            found.key = _check_key(path, line)
        if line.startswith("#EXTINF:"):
            number = re.match(r"#EXTINF:\s*([0-9]{1,7}(?:\.[0-9]{1,9})?)", line)
            found.seconds += float(number[1]) if number else 0.0
            segments = True
        ended |= line.startswith("#EXT-X-ENDLIST")
        if line and not line.startswith("#"):
            line = str(_resolve(path, line, found, depth))
        else:
            line = re.sub(
                r'\bURI=("(?:[^"\\]|\\.)*"?|[^,]*)', lambda match: _resolve_tag(path, match[1], found, depth), line
            )
        lines.append(line)
    members = sum(bool(line) and not line.startswith("#") for line in lines)
    if members and len(found.missing) >= members:
        raise VideoError(f"{path} names {members} files, such as {found.missing[0]}, and none of them exists")
    found.finished = ended or not segments
    found.text = "\n".join([*lines, "#EXT-X-ENDLIST", ""])
    return found


def _read_concat(path: Path) -> Playlist:
    found = Playlist("concat")
    for line in _read_lines(path):
        words = line.strip(" \t").split(maxsplit=1)
        if len(words) == 2 and words[0] == "file":
            # FFmpeg refuses names with other characters than letters, digits, and ._-/, but for the quotes.
            _resolve(path, re.sub(r"['\\]", "", words[1].split()[0]), found, _DEEPEST)
    return found


def _resolve_tag(path: Path, value: str, found: Playlist, depth: int) -> str:
    name = re.sub(r"\\(.)", r"\1", value.strip('"'))
    return f'URI="{_resolve(path, name, found, depth)}"'


def _resolve(path: Path, name: str, found: Playlist, depth: int) -> Path:
    """The file that a playlist names; notes it if it is missing, and what is missing in it if it is a playlist."""
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+):", name)
    if scheme and scheme[1].lower() != "file":
        raise VideoError(f"{path} cannot be read as video: it names {name[:80]}, and only local files are read")
    member = path.absolute().parent / re.sub(r"^file:(//)?", "", name)
    try:
        mode = member.stat().st_mode
        if not stat.S_ISREG(mode):
            raise VideoError(f"{path} names {name[:80]}, which is not a regular file; save it to disk first")
        head = _read_head(member)
    except (OSError, ValueError):
        found.missing.append(name[:80])
        return member
    if not head.startswith((_HLS, _CONCAT)):
        return member
    if depth == _DEEPEST or head.startswith(_CONCAT):
        raise VideoError(f"{path} names the playlist {member.name}, which is no list of segments; open another")
    inner = _read_hls(member, depth + 1)
    found.missing += inner.missing
    found.key = inner.key or found.key
    if not inner.finished:
        raise VideoError(
            f"{path} names {member.name}, which has no #EXT-X-ENDLIST; add that line, or open {member.name} itself"
        )
    return member


def _check_key(path: Path, line: str) -> str:
    """The name of the file with the key."""
    found = re.search(r"METHOD=([A-Z0-9-]+)", line)
    method = found[1] if found else "unknown method"
    if method not in ("AES-128", "SAMPLE-AES"):
        raise VideoError(f"{path} is encrypted ({method}), which FFmpeg cannot decrypt; decrypt the video first")
    uri = re.search(r'URI="?([^",]*)', line)
    name = uri[1] if uri else ""
    key = path.absolute().parent / re.sub(r"^file:(//)?", "", name)
    if not name or not key.is_file():
        raise VideoError(
            f"{path} is encrypted ({method}) and its key {name[:80] or '(none)'} "
            f"is not a local file; decrypt the video first, or put the key there"
        )
    if key.stat().st_size != _KEY_LENGTH:
        raise VideoError(
            f"{path} is encrypted ({method}) and its key {name[:80]} has {key.stat().st_size} bytes instead of "
            f"{_KEY_LENGTH}; put the right key there"
        )
    return name[:80]
