"""r2tuning's own feature files: safetensors, each with the facts of how it came about."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from r2tuning.errors import FeatureError
from r2tuning.features.encoded import METADATA, TENSOR, EncodedVideo, EncodingFacts
from r2tuning.features.writing import file_name, replace_file

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
        with replace_file(self.query_path(name)) as part:
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
