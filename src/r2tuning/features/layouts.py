"""Feature files in two layouts: safetensors with facts, and the authors' npy files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from tokenize import TokenError
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from r2tuning.backbones.registry import KNOWN_BACKBONES
from r2tuning.errors import FeatureError
from r2tuning.features.encoded import METADATA, TENSOR, EncodedVideo, EncodingFacts
from r2tuning.files import file_name, replace_file

QUERY = "query"
"""Name of the tensor in a query's file."""


class QueryFacts(BaseModel):
    """How the features of a query came about.

    Attributes:
        text: The sentence.
        truncated: Whether it was cut to what the text tower takes.
        backbone: Hub name or folder of the CLIP.
        fingerprint: Of the CLIP's weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    truncated: bool
    backbone: str
    fingerprint: str


class OwnFiles:
    """``videos/{name}.safetensors`` and ``queries/{name}.safetensors``.

    Args:
        folder: That of the store.

    Attributes:
        videos: Folder of the videos' features.
        queries: Folder of the queries' features.
        folders: All folders of the store.
    """

    def __init__(self, folder: Path) -> None:
        self.videos = folder / "videos"
        self.queries = folder / "queries"
        self.folders = (self.videos, self.queries)

    def video_path(self, name: str) -> Path:
        """The file of a video's features."""
        return self.videos / file_name(name, ".safetensors")

    def query_path(self, name: str) -> Path:
        """The file of a query's features."""
        return self.queries / file_name(name, ".safetensors")

    def video_facts(self, name: str) -> EncodingFacts:
        """How a video's features came about."""
        return EncodedVideo.load(self.video_path(name)).facts

    def query_facts(self, name: str) -> QueryFacts:
        """How a query's features came about."""
        path = self.query_path(name)
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            return QueryFacts.model_validate_json(metadata.get(METADATA, ""))
        except (SafetensorError, OSError) as error:
            raise FeatureError(f"{path}: damaged or not a feature file ({error}); extract it again") from error
        except ValidationError as error:
            raise FeatureError(f"{path}: not features of a query written by r2tuning; extract it again") from error

    def video_shape(self, name: str) -> tuple[int, ...]:
        """``(T, K, P+1, Dv)`` of a video, without reading it."""
        encoded = EncodedVideo.load(self.video_path(name))
        return encoded.frames, encoded.layers, encoded.tokens, encoded.width

    def query_shape(self, name: str) -> tuple[int, ...]:
        """``(L, K, Dq)`` of a query."""
        return tuple(self.read_query(name).shape)

    def read_video(self, name: str) -> Tensor:
        """fp16 ``[T, K, P+1, Dv]``, memory-mapped."""
        return _map_tensor(self.video_path(name), TENSOR)

    def read_query(self, name: str) -> Tensor:
        """fp16 ``[L, K, Dq]``, memory-mapped."""
        return _map_tensor(self.query_path(name), QUERY)

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        """Writes a video's features as a whole."""
        encoded.save(self.video_path(name))

    def save_query(self, name: str, values: Tensor, facts: QueryFacts) -> None:
        """Writes a query's features, fp16 ``[L, K, Dq]``, as a whole."""
        with replace_file(self.query_path(name), error=FeatureError, refusals=(SafetensorError,)) as part:
            save_file({QUERY: values.contiguous()}, part, metadata={METADATA: facts.model_dump_json()})


def _map_tensor(path: Path, name: str) -> Tensor:
    try:
        with safe_open(path, "pt") as file:
            if name not in file.keys() or file.get_slice(name).get_dtype() != "F16":  # noqa: SIM118  (no mapping)
                raise FeatureError(f"{path}: holds no fp16 tensor {name!r}; extract it again")
            tensor: Tensor = file.get_tensor(name)
            return tensor
    except (SafetensorError, OSError) as error:
        raise FeatureError(f"{path}: damaged or not a feature file ({error}); extract it again") from error


PIECE = 64
"""Frames that are written at once."""

Facts = TypeVar("Facts", bound=BaseModel)


class NpyFiles:
    """``{tag}_vid_k{K}/{name}.npy`` and ``{tag}_txt_k{K}/{name}.npy``; what r2tuning knows of them is in ``facts``.

    Args:
        folder: That of the store.
        tag: What the names of the two folders begin with, such as ``clip_b32``.
        layers: K.

    Attributes:
        videos: Folder of the videos' features.
        queries: Folder of the queries' features.
        folders: All folders of the store.
    """

    def __init__(self, folder: Path, tag: str, layers: int) -> None:
        self.videos = folder / f"{tag}_vid_k{layers}"
        self.queries = folder / f"{tag}_txt_k{layers}"
        self._video_facts = folder / "facts" / "videos"
        self._query_facts = folder / "facts" / "queries"
        self.folders = (self.videos, self.queries, self._video_facts, self._query_facts)

    def video_path(self, name: str) -> Path:
        """The file of a video's features."""
        return self.videos / file_name(name, ".npy")

    def query_path(self, name: str) -> Path:
        """The file of a query's features."""
        return self.queries / file_name(name, ".npy")

    def video_facts(self, name: str) -> EncodingFacts | None:
        """How a video's features came about; None where they are not r2tuning's."""
        return _read_facts(self._video_facts_path(name), EncodingFacts)

    def query_facts(self, name: str) -> QueryFacts | None:
        """How a query's features came about; None where they are not r2tuning's."""
        return _read_facts(self._query_facts_path(name), QueryFacts)

    def video_shape(self, name: str) -> tuple[int, ...]:
        """``(T, K, P+1, Dv)`` of a video, without reading it."""
        return map_array(self.video_path(name)).shape

    def query_shape(self, name: str) -> tuple[int, ...]:
        """``(L, K, Dq)`` of a query."""
        return map_array(self.query_path(name)).shape

    def read_video(self, name: str) -> Tensor:
        """fp16 ``[T, K, P+1, Dv]``, memory-mapped."""
        return _to_tensor(map_array(self.video_path(name)))

    def read_query(self, name: str) -> Tensor:
        """fp16 ``[L, K, Dq]``, memory-mapped."""
        return _to_tensor(map_array(self.query_path(name)))

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        """Writes a video's features as a whole."""
        shape = encoded.frames, encoded.layers, encoded.tokens, encoded.width
        starts = range(0, encoded.frames, PIECE)
        pieces = (encoded.read(start, min(start + PIECE, encoded.frames)).transpose(0, 1) for start in starts)
        self._save(self.video_path(name), self._video_facts_path(name), shape, pieces, encoded.facts)

    def save_query(self, name: str, values: Tensor, facts: QueryFacts) -> None:
        """Writes a query's features, fp16 ``[L, K, Dq]``, as a whole."""
        self._save(self.query_path(name), self._query_facts_path(name), tuple(values.shape), [values], facts)

    def _save(
        self, path: Path, facts_path: Path, shape: tuple[int, ...], pieces: Iterable[Tensor], facts: BaseModel
    ) -> None:
        # Old facts must not stand beside a new array, so they go first and come last.
        with replace_file(path, error=FeatureError) as part:
            facts_path.unlink(missing_ok=True)
            with part.open("xb") as file:
                header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for piece in pieces:
                    file.write(piece.contiguous().numpy().astype("<f2", copy=False).tobytes())
        with replace_file(facts_path, error=FeatureError) as part:
            part.write_text(facts.model_dump_json() + "\n", encoding="utf-8")

    def _video_facts_path(self, name: str) -> Path:
        return self._video_facts / file_name(name, ".json")

    def _query_facts_path(self, name: str) -> Path:
        return self._query_facts / file_name(name, ".json")


def map_array(path: Path) -> NDArray[Any]:
    """Maps a file's array into memory without reading it; writes to it stay in this process.

    Raises:
        FeatureError: If the file is damaged, or holds something other than an fp16 or fp32 array.
    """
    try:
        # Unlike np.load, this reads arrays only: no archives, and never a pickle.
        array = np.lib.format.open_memmap(path, mode="c")
    except (OSError, ValueError, OverflowError, SyntaxError, TokenError, MemoryError) as error:
        reason = " ".join(str(error).split())[:150]
        raise FeatureError(f"{path}: damaged or not a NumPy array ({reason}); extract or download it again") from error
    if array.dtype.newbyteorder("=") not in (np.float16, np.float32):
        raise FeatureError(f"{path}: holds numbers of type {array.dtype}, not fp16 or fp32; extract it again")
    return array


def backbone_tag(backbone: str) -> str:
    """What the authors' folders of a backbone's features begin with.

    Example:
        >>> backbone_tag("openai/clip-vit-base-patch32"), backbone_tag("models/my-clip")
        ('clip_b32', 'my_clip')
    """
    for known in KNOWN_BACKBONES:
        if backbone in (known.repository, known.name):
            return "clip_" + re.sub(r"\W", "", known.name.removeprefix("ViT-")).lower()
    return re.sub(r"\W", "_", Path(backbone).name) or "clip"


def find_npy_folders(folder: Path) -> list[tuple[str, int]]:
    """Tags and layers of the pairs of feature folders in ``folder``."""
    pairs = []
    for videos in sorted(folder.glob("*_vid_k*")):
        found = re.fullmatch(r"(.+)_vid_k([1-9]\d?)", videos.name)
        if found and (folder / f"{found[1]}_txt_k{found[2]}").is_dir():
            pairs.append((found[1], int(found[2])))
    return pairs


def _to_tensor(array: NDArray[Any]) -> Tensor:
    if array.dtype != np.dtype("=f2"):  # fp32, or of a machine with another byte order
        limit = np.finfo(np.float16).max
        array = np.asarray(array).clip(-limit, limit).astype(np.float16)
    return torch.from_numpy(array)


def _read_facts(path: Path, kind: type[Facts]) -> Facts | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise FeatureError(f"{path}: damaged or not written by r2tuning; extract its features again") from error
