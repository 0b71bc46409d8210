"""The library as the API shows it: files by ids, and names instead of places on the server's disk."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from r2tuning.library.catalog import open_catalog
from r2tuning.library.records import File, Generation, Listed
from r2tuning.server.problems import Refused
from r2tuning.server.settings import Settings

_SHOWN = 5  # videos of one name that a message lists


@dataclass(frozen=True)
class Contents:
    """The library between two changes.

    Attributes:
        changes: How many changes there had been.
        generation: What made it; None if it is empty.
        files: By id, in order of their names.
        ids: By path.
        same: Ids of the files with a content, by its identity.
    """

    changes: int
    generation: Generation | None
    files: dict[str, Listed]
    ids: dict[str, str]
    same: dict[str, list[str]]


def make_id(path: str) -> str:
    """The id of a file: 16 hex digits, which stay as long as the file stays at its place.

    Example:
        >>> make_id("/home/me/trip.mp4")
        'b97d31d116cf08ec'
    """
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


class Collection:
    """Reads the catalog when it has changed. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contents: Contents | None = None
        self._lock = threading.Lock()

    def count_changes(self) -> int:
        """As long as it is the same, so is the library."""
        with open_catalog(self._settings.library) as catalog:
            return catalog.count_changes()

    def read(self) -> Contents:
        """The library as it is now."""
        with self._lock, open_catalog(self._settings.library) as catalog, catalog.look():
            changes = catalog.count_changes()
            if self._contents is not None and self._contents.changes == changes:
                return self._contents
            generation, listed = catalog.list_contents()
        files = {make_id(one.file.path): one for one in sorted(listed, key=lambda one: self.name(one.file.path))}
        same: dict[str, list[str]] = {}
        for number, one in files.items():
            same.setdefault(one.file.identity, []).append(number)
        self._contents = Contents(changes, generation, files, {one.file.path: i for i, one in files.items()}, same)
        return self._contents

    def find(self, number: str) -> Listed:
        """The file of an id.

        Raises:
            Refused: If there is none.
        """
        found = self.read().files.get(number)
        if found is None:
            raise Refused(404, f"video {number}: is not in the library; GET /api/v1/videos lists all")
        return found

    def find_ready(self, number: str) -> Listed:
        """The file of an id, whose video is encoded and there.

        Raises:
            Refused: If it is not.
        """
        found = self.find(number)
        if found.state != "ready":
            reason = f" ({self.hide(found.file.reason)})" if found.file.reason else ""
            raise Refused(409, f"{self.name(found.file.path)}: is {found.state}{reason}; it cannot be asked")
        return found

    def find_there(self, number: str) -> File:
        """The file of an id, if it is there.

        Raises:
            Refused: If it is not.
        """
        file = self.find(number).file
        if not Path(file.path).is_file():
            raise Refused(404, f"{self.name(file.path)}: is not there any more; rescan the library")
        return file

    def find_named(self, given: str) -> str | None:
        """The id of the file of an id, a name, or the last part of a name; None if there is none.

        Raises:
            Refused: If there are several.
        """
        files = self.read().files
        if given in files:
            return given
        named = {number: self.name(one.file.path) for number, one in files.items()}
        found = [number for number, name in named.items() if name == given]
        found = found or [number for number, name in named.items() if Path(name).name == given]
        if len(found) > 1:
            several = ", ".join(f"{number} ({named[number]})" for number in found[:_SHOWN])
            raise Refused(409, f"{given}: is the name of {len(found)} videos; give an id: {several}")
        return found[0] if found else None

    def name(self, path: str) -> str:
        """A file as the API shows it: from the name of its root on; the bare name if it is outside of all roots."""
        root = self._settings.find_root(path)
        if root is None:
            return Path(path).name
        return Path(root.name or "root", Path(path).relative_to(root)).as_posix()

    def hide(self, text: str) -> str:
        """A message without places on the server's disk."""
        for root in sorted((*self._settings.roots, self._settings.library), key=lambda root: -len(root.parts)):
            if root.name:
                text = text.replace(f"{root.parent}{os.sep}".replace("//", "/"), "")
        for model in self._list_models():
            text = text.replace(f"{model.parent}{os.sep}", "")
        for path in self._contents.ids if self._contents is not None else ():
            text = text.replace(path, self.name(path)) if path in text else text
        home = Path.home()  # such as of the cache
        return text.replace(f"{home}{os.sep}", "~/") if home.name else text

    def _list_models(self) -> list[Path]:
        """The models that are folders or files of the server: the one that was asked for, and what made the library."""
        names = [self._settings.model]
        if self._contents is not None and self._contents.generation is not None:
            facts = self._contents.generation.facts
            names += [facts.model, facts.backbone_at]
        return [Path(name) for name in names if name is not None and Path(name).is_absolute()]

    def to_pattern(self, within: str) -> str:
        """A folder or pattern of names as one of paths, for a search.

        Names that begin with that of a root mean what is in it; other patterns may begin anywhere.
        """
        first, _, rest = within.partition("/")
        for root in self._settings.roots:
            if root.name == first:
                return f"{escape(str(root))}/{rest}" if re.search(r"[*?\[]", rest) else str(root / rest)
        return within if within.startswith("*") else f"*/{within}"

    def resolve(self, given: str) -> str:
        """A path that a client gave, absolute or from the name of a root on, with links followed.

        Raises:
            Refused: If it is below no root, or does not exist.
        """
        roots = self._settings.roots
        if not roots:
            raise Refused(403, "path: the server has no folder to add from; start it with --root DIR, or upload videos")
        if "\0" in given:
            raise Refused(422, "path: holds a zero byte; correct it")
        path = Path(given)
        if not path.is_absolute():
            root = next((root for root in roots if path.parts and root.name == path.parts[0]), None)
            path = roots[0] / path if root is None else root.joinpath(*path.parts[1:])
        try:
            real = os.path.realpath(path, strict=True)
        except (OSError, ValueError):  # the latter of text that no name can hold
            real = ""
        # Whether something outside exists is not told.
        if not real or self._settings.find_root(real) is None:
            names = ", ".join(root.name for root in roots)
            raise Refused(404, f"{given}: is in no folder that may be read ({names}); check the path")
        return real
