"""The settings of a server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from r2tuning.errors import ServerError
from r2tuning.types import Engine

API = "/api/v1"
"""Where the API begins."""

DEFAULT_PORT = 8420
MAX_UPLOAD = 4 * 10**9
"""Bytes of a video that may be uploaded, by default."""

_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Settings:
    """What a server serves, and to whom.

    Attributes:
        library: Folder of the library.
        model: Which model to ask with and to index with; None for that of the library, see `r2tuning.Library`.
        device: Where it runs; None for the GPU if there is one.
        engine: What runs the image tower.
        host: Address to listen on.
        port: Port to listen on.
        token: What clients must know; empty if they need not.
        roots: Folders whose videos may be added by path, links followed.
        allowed_hosts: More names by which clients may call the server.
        max_upload: Bytes of a video that may be uploaded.
        most_waiting: Questions that may wait for an answer; further ones are refused.
        requests_per_second: Of one client, on average; further ones are refused.
    """

    library: Path
    model: str | None = None
    device: str | None = None
    engine: Engine | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str = ""
    roots: tuple[Path, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    max_upload: int = MAX_UPLOAD
    most_waiting: int = 64
    requests_per_second: float = 1000.0

    @property
    def uploads(self) -> Path:
        """Folder of the videos that were uploaded; each is in a folder of its own."""
        return self.library / "uploads"

    @property
    def exports(self) -> Path:
        """Folder of what jobs made, until it is old."""
        return self.library / "exports"

    @property
    def hosts(self) -> frozenset[str]:
        """Names in a ``Host`` header that are answered, in lower case and without port."""
        mine = () if self.host in ("0.0.0.0", "::") else (bracket(self.host),)
        return frozenset(name.lower() for name in (*_LOCAL_NAMES, *mine, *self.allowed_hosts))

    def find_root(self, path: str) -> Path | None:
        """The root that a path lies in, or that it is; None if there is none. Links are not followed."""
        inside = [root for root in self.roots if Path(path) == root or root in Path(path).parents]
        return max(inside, key=lambda root: len(root.parts), default=None)


def make_roots(folders: list[Path] | tuple[Path, ...]) -> tuple[Path, ...]:
    """Roots as `Settings` takes them.

    Raises:
        ServerError: If one is no folder.
    """
    for folder in folders:
        if not folder.expanduser().is_dir():
            raise ServerError(f"{folder}: is no folder; give --root a folder with videos")
    return tuple(dict.fromkeys(Path(os.path.realpath(folder.expanduser())) for folder in folders))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def bracket(host: str) -> str:
    """An address as a URL has it: IPv6 in brackets.

    Example:
        >>> bracket("::1"), bracket("127.0.0.1")
        ('[::1]', '127.0.0.1')
    """
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
