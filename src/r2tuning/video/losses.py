"""What a file has, or says that it has, and FFmpeg passes over in silence."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO, Literal

from r2tuning.video.playlist import read_playlist

# Signature, version, flags, length, and that no tag comes before (Adobe's FLV specification 10.1, annex E.2).
_FLV_HEADER = re.compile(rb"FLV\x01[\x01\x04\x05]\0\0\0\x09\0\0\0\0")
# A number in its metadata (annex E.5, and AMF0, 2.2).
_FLV_SIZE = re.compile(rb"\0\x08filesize\0(.{8})", re.DOTALL)

# First bytes of objects of ASF (Microsoft's ASF specification, 10.1 and 10.2).
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_EBML, _SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")
# Bytes in which metadata are looked for.
_HEAD = 1 << 16
# Bytes by which writers miscount.
_TOLERANCE = 64
_MOST_PARTS = 1 << 20


def find_losses(path: Path, *, states_length: bool) -> list[str]:
    """Names missing segments, FLV files joined behind another, and how much of a file is cut off.

    Bytes are counted in formats whose stated seconds FFmpeg forgets if the file is cut off, and in others whose header
    does not state them (``states_length``).
    """
    playlist = read_playlist(path)
    if playlist is not None:
        return [f"{name} is missing" for name in playlist.missing]
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        if head[:3] == b"FLV" and _has_joined_flash(file):
            return ["another recording follows the first one in it, which FFmpeg does not read: split them"]
        stated = _find_stated_size(file, head, states_length)
    if stated is not None and stated > size + _TOLERANCE:
        return [f"its header states {stated:,} bytes, of which {size:,} are there"]
    return []


def _has_joined_flash(file: BinaryIO) -> bool:
    tail = b""
    while block := file.read(1 << 20):
        if _FLV_HEADER.search(tail + block):
            return True
        tail = block[-16:]
    return False


def _find_stated_size(file: BinaryIO, head: bytes, states_length: bool) -> int | None:
    """Bytes that a file has if it is complete, by its own header; None if that does not say."""
    if head.startswith(_ASF):
        file.seek(0)
        header = file.read(_HEAD)
        place = header.find(_ASF_FILE)
        properties = header[place : place + 92]
        live = len(properties) < 92 or properties[88] & 1
        return None if place < 0 or live else int.from_bytes(properties[40:48], "little")
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _walk(file, (b"RIFF",), "little", 8)
    if head[:4] == b".RMF":
        return _walk(file, (b".RMF", b"PROP", b"MDPR", b"CONT", b"DATA"), "big", 0)
    if head[:3] == b"FLV":
        file.seek(0)
        found = _FLV_SIZE.search(file.read(_HEAD))
        stated = struct.unpack(">d", found[1])[0] if found else 0.0
        return int(stated) if 0 < stated < 1e15 else None
    if head[:3] == b"FWS":
        return int.from_bytes(head[4:8], "little")
    if states_length:
        return None
    return _measure_matroska(file) if head.startswith(_EBML) else None


def _walk(file: BinaryIO, names: tuple[bytes, ...], order: Literal["little", "big"], extra: int) -> int | None:
    """Where the last of the named parts that a file begins with ends, each with four bytes of name and of size."""
    place = 0
    for _ in range(_MOST_PARTS):
        file.seek(place)
        part = file.read(8)
        length = int.from_bytes(part[4:], order)
        if part[:4] not in names or not 0 < length < 0xFFFFFFFF:
            break
        place += extra + length + (length % 2 if extra else 0)
    return place or None


def _measure_matroska(file: BinaryIO) -> int | None:
    """Where the segment ends (RFC 8794, 6.2; RFC 9559, 5.1)."""
    place = 0
    for name in (_EBML, _SEGMENT):
        file.seek(place)
        part = file.read(12)
        if part[:4] != name or len(part) < 5 or not part[4]:
            return None
        width = 9 - part[4].bit_length()
        length = int.from_bytes(part[4 : 4 + width], "big") & ((1 << 7 * width) - 1)
        if length == (1 << 7 * width) - 1:  # unknown, in a live recording
            return None
        place += 4 + width + length
    return place
