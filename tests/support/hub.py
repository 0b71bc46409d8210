"""A small Hugging Face hub on this machine, over real HTTP, and a benchmark to download from it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"

_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")
_MODEL = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)")


@dataclass(frozen=True)
class Request:
    """What a client asked for; ``range`` is its Range header or None."""

    method: str
    path: str
    range: str | None


@dataclass
class Hub:
    """A running hub.

    Attributes:
        url: For ``HF_ENDPOINT``.
        files: Content by ``owner/repository/file``; may be changed while running.
        damaged: Content that is sent instead of what is in ``files``, and listed.
        requests: All requests so far.
        cut_after: Close the next GET's connection after so many bytes of a file, once.
        status_after_cut: Becomes ``status`` when a connection was cut.
        status: Answer everything with this HTTP status instead.
        trickle: Send files byte by byte, never silent for long.
    """

    url: str
    files: dict[str, bytes]
    damaged: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cut_after: int | None = None
    status_after_cut: int | None = None
    status: int | None = None
    trickle: bool = False

    @property
    def ranges(self) -> list[str]:
        """Range headers of all GETs that had one."""
        return [request.range for request in self.requests if request.method == "GET" and request.range]

    def list_repository(self, repository: str) -> bytes:
        """What the hub says of a model repository and its files: only JSON is small enough to be in Git itself."""
        siblings = []
        for name, content in self.files.items():
            if not name.startswith(f"{repository}/"):
                continue
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"rfilename": name.removeprefix(f"{repository}/"), "size": len(content), "blobId": blob}
            if not name.endswith((".json", ".jsonl")):
                large = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
                entry |= {"blobId": COMMIT, "lfs": large}
            siblings.append(entry)
        return json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What HF_ENDPOINT sets; the hub's client reads it once, when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def use_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What HF_HUB_CACHE sets; the client's functions took its value as a default when they were defined."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    for name in ("hf_hub_download", "try_to_load_from_cache"):
        monkeypatch.setattr(huggingface_hub, name, partial(getattr(huggingface_hub, name), cache_dir=folder))


def put_repository(cache: Path, repository: str, files: dict[str, bytes]) -> dict[str, Path]:
    """A repository in the hub client's cache; the content of each file by its name."""
    folder, commit = cache / f"models--{repository.replace('/', '--')}", "c" * 40
    blobs = {}
    for name, content in files.items():
        blobs[name] = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blobs[name].parent.mkdir(parents=True, exist_ok=True)
        blobs[name].write_bytes(content)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs[name], link.parent))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    return blobs


@contextmanager
def serve_hub(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """Runs a hub on a free port of this machine, in a thread, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Nothing: requests are kept in the hub."""

        def _answer(self) -> None:
            wanted = self.headers.get("Range")
            hub.requests.append(Request(self.command, self.path, wanted))
            if hub.status is not None:
                self._send(hub.status, b"", {})
                return
            if model := _MODEL.fullmatch(urlsplit(self.path).path):
                self._send(200, hub.list_repository(model["repo"]), {"Content-Type": "application/json"})
                return
            match = _RESOLVE.fullmatch(self.path)
            name = f"{match['repo']}/{match['file']}" if match else ""
            body = hub.damaged.get(name, hub.files.get(name))
            if body is None:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            headers = {
                "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(len(body)),
                "Accept-Ranges": "bytes",
            }
            if wanted:
                first = int(wanted.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
                self._send(206, body[first:], headers)
            else:
                self._send(200, body, headers)

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.cut_after is not None and "/resolve/" in self.path:
                body, hub.cut_after = body[: hub.cut_after], None
                hub.status = hub.status_after_cut
                self.close_connection = True
            if hub.trickle and "/resolve/" in self.path:
                with suppress(OSError):  # until the client has enough
                    for place in range(len(body)):
                        self.wfile.write(body[place : place + 1])
                        time.sleep(0.1)
                return
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(url=f"http://127.0.0.1:{server.server_address[1]}", files=dict(files))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


FOLDER = "yeliudev/R2-Tuning/datasets/charades/"
VIDEO_ARCHIVE = "charades_clip_b32_vid_k4.tar.gz"
QUERY_ARCHIVE = "charades_clip_b32_txt_k4.tar.gz"
VIDEOS = ("3MSZA", "AO8RW", "0A8CF")


def features(name: str) -> np.ndarray:
    """What a feature file of this name holds: noise, which does not compress, always the same."""
    return np.random.default_rng(list(name.encode())).standard_normal((4, 6, 50, 16)).astype(np.float16)


def to_npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def make_archive(files: Mapping[str, bytes], others: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """A .tar.gz of files, and after them members without content: links, devices, folders."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return stream.getvalue()


def cut(name: str, content: bytes, parts: int) -> dict[str, bytes]:
    """The parts as ``split -b`` makes and names them."""
    length = -(-len(content) // parts)
    return {f"{FOLDER}{name}.a{'abcdefgh'[n]}": content[n * length : (n + 1) * length] for n in range(parts)}


def charades_files() -> dict[str, bytes]:
    """Content by path; a whole archive per kind of features, the videos' in three parts."""
    videos = make_archive(
        {f"clip_b32_vid_k4/{vid}.npy": to_npy(features(vid)) for vid in VIDEOS},
        [member("clip_b32_vid_k4/", tarfile.DIRTYPE)],
    )
    queries = make_archive({f"clip_b32_txt_k4/{qid}.npy": to_npy(features(str(qid))) for qid in range(3)})
    files = {}
    for split in ("train", "test"):
        lines = [
            {"qid": qid, "vid": vid, "query": "a person sits", "duration": 30.0, "relevant_windows": [[2.5, 9.0]]}
            for qid, vid in enumerate(VIDEOS)
        ]
        content = "".join(json.dumps(line) + "\n" for line in lines)
        files[f"{FOLDER}charades_{split}.jsonl"] = content.encode()
    return files | cut(VIDEO_ARCHIVE, videos, 3) | {FOLDER + QUERY_ARCHIVE: queries}
