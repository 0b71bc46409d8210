"""A small Charades-STA as the authors' repository has it: annotations, and features in archives cut into parts."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping

import numpy as np

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
