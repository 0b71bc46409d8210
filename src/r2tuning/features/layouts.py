"""Feature files in two layouts: safetensors with their facts inside, and the authors' arrays with facts beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from r2tuning.backbones.registry import KNOWN_BACKBONES
from r2tuning.errors import FeatureError
from r2tuning.features.encoded import METADATA, TENSOR, EncodedVideo, EncodingFacts, Facts, read_header
from r2tuning.files import file_name, guard, read_model, replace_file, require_regular

PIECE = 64  # frames written at a time


class QueryFacts(BaseModel):
    """How the features of a query were made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    truncated: bool
    backbone: str
    fingerprint: str


@dataclass(frozen=True)
class Kind(Generic[Facts]):
    """Videos or queries: names of their tensor, our folder and the authors', and their facts and axes."""

    tensor: str
    folder: str
    short: str
    facts: type[Facts]
    axes: tuple[str, ...]


VIDEO = Kind(TENSOR, "videos", "vid", EncodingFacts, ("T", "K", "P+1", "Dv"))
QUERY = Kind("query", "queries", "txt", QueryFacts, ("L", "K", "Dq"))


class SafetensorsFiles:
    """``videos/{name}.safetensors`` and ``queries/{name}.safetensors`` in a store's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.folders = [folder / kind.folder for kind in (VIDEO, QUERY)]

    def path(self, kind: Kind[Any], name: str) -> Path:
        """The file of a video's or query's features."""
        return self._folder / kind.folder / file_name(name, ".safetensors")

    def facts(self, kind: Kind[Facts], name: str) -> Facts:
        """How the features were made."""
        return read_header(self.path(kind, name), kind.tensor, len(kind.axes), kind.facts)[1]

    def shape(self, kind: Kind[Any], name: str) -> tuple[int, ...]:
        """Sizes of the axes, without reading the features."""
        return read_header(self.path(kind, name), kind.tensor, len(kind.axes), kind.facts)[0]

    def read(self, kind: Kind[Any], name: str) -> Tensor:
        """The fp16 features, memory-mapped."""
        self.facts(kind, name)
        with safe_open(self.path(kind, name), "pt") as file:
            tensor: Tensor = file.get_tensor(kind.tensor)
            return tensor

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        """Writes a video's features."""
        encoded.expand().save(self.path(VIDEO, name))

    def save_query(self, name: str, values: Tensor, facts: QueryFacts) -> None:
        """Writes a query's features, fp16 ``[L, K, Dq]``."""
        with replace_file(self.path(QUERY, name), error=FeatureError, refusals=(SafetensorError,)) as part:
            save_file({QUERY.tensor: values.contiguous()}, part, metadata={METADATA: facts.model_dump_json()})


class NpyFiles:
    """``{tag}_vid_k{K}/{name}.npy`` and ``{tag}_txt_k{K}/{name}.npy``, with their facts in ``facts/``."""

    def __init__(self, folder: Path, tag: str, layers: int) -> None:
        self._facts = folder / "facts"
        self._arrays = {kind.short: folder / f"{tag}_{kind.short}_k{layers}" for kind in (VIDEO, QUERY)}
        self.folders = [*self._arrays.values(), self._facts / VIDEO.folder, self._facts / QUERY.folder]

    def path(self, kind: Kind[Any], name: str) -> Path:
        """The file of a video's or query's features."""
        return self._arrays[kind.short] / file_name(name, ".npy")

    def facts(self, kind: Kind[Facts], name: str) -> Facts | None:
        """How the features were made; None where they are not r2tuning's."""
        path = self._facts_path(kind, name)
        if not path.exists():
            return None
        return read_model(path, kind.facts, FeatureError, "extract its features again")

    def shape(self, kind: Kind[Any], name: str) -> tuple[int, ...]:
        """Sizes of the axes, without reading the features."""
        return map_array(self.path(kind, name)).shape

    def read(self, kind: Kind[Any], name: str) -> Tensor:
        """The features as fp16, memory-mapped unless they are stored as fp32."""
        array = map_array(self.path(kind, name))
        if array.dtype != np.dtype("=f2"):  # fp32, or of a machine with another byte order
            limit = np.finfo(np.float16).max
            array = np.asarray(array).clip(-limit, limit).astype(np.float16)
        return torch.from_numpy(array)

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        """Writes a video's features."""
        encoded = encoded.expand()
        shape = encoded.frames, encoded.layers, encoded.tokens, encoded.width
        starts = range(0, encoded.frames, PIECE)
        pieces = (encoded.read(start, min(start + PIECE, encoded.frames)).transpose(0, 1) for start in starts)
        self._save(VIDEO, name, shape, pieces, encoded.facts)

    def save_query(self, name: str, values: Tensor, facts: QueryFacts) -> None:
        """Writes a query's features, fp16 ``[L, K, Dq]``."""
        self._save(QUERY, name, tuple(values.shape), [values], facts)

    def _save(
        self, kind: Kind[Facts], name: str, shape: tuple[int, ...], pieces: Iterable[Tensor], facts: Facts
    ) -> None:
        # Old facts must not stand beside a new array, so they go first and come last.
        facts_path = self._facts_path(kind, name)
        with replace_file(self.path(kind, name), error=FeatureError) as part:
            facts_path.unlink(missing_ok=True)
            with part.open("xb") as file:
                header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for piece in pieces:
                    file.write(piece.contiguous().numpy().astype("<f2", copy=False).tobytes())
        with replace_file(facts_path, error=FeatureError) as part:
            part.write_text(facts.model_dump_json() + "\n", encoding="utf-8")

    def _facts_path(self, kind: Kind[Any], name: str) -> Path:
        return self._facts / kind.folder / file_name(name, ".json")


def map_array(path: Path) -> NDArray[Any]:
    """Maps a file's fp16 or fp32 array into memory without reading it; writes to it stay in this process."""
    with guard(f"{path}: damaged or not a NumPy array", FeatureError, "extract or download it again"):
        require_regular(path)
        # Unlike np.load, this reads arrays only: no archives, and never a pickle.
        array = np.lib.format.open_memmap(path, mode="c")
    if array.dtype.newbyteorder("=") not in (np.float16, np.float32):
        raise FeatureError(f"{path}: holds numbers of type {array.dtype}, not fp16 or fp32; extract it again")
    return array


def backbone_tag(backbone: str) -> str:
    """The tag that begins the names of the authors' folders.

    Example:
        >>> backbone_tag("openai/clip-vit-base-patch32"), backbone_tag("models/my-clip")
        ('clip_b32', 'my_clip')
        >>> backbone_tag("SigLIP2-B/16")
        'siglip2_b16'
    """
    for known in KNOWN_BACKBONES:
        if backbone in (known.repository, known.name):
            short = re.sub(r"[/@]", "", known.name.removeprefix("ViT-")).replace("-", "_").lower()
            return short if "_" in short else f"clip_{short}"
    return re.sub(r"\W", "_", Path(backbone).name) or "clip"


def find_npy_folders(folder: Path) -> list[tuple[str, int]]:
    """Tags and layers of the pairs of feature folders in ``folder``."""
    pairs = []
    for videos in sorted(folder.glob("*_vid_k*")):
        found = re.fullmatch(r"(.+)_vid_k([1-9]\d?)", videos.name)
        if found and (folder / f"{found[1]}_txt_k{found[2]}").is_dir():
            pairs.append((found[1], int(found[2])))
    return pairs
