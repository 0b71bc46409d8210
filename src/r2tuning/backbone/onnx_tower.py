"""The image tower run by ONNX Runtime in 8-bit integers; its model is made once and kept in the cache."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from r2tuning.backbone.loading import IMAGE, LoadedClip
from r2tuning.errors import BackboneError
from r2tuning.files import cache_folder

ONNX_VERSION = 1
"""Raised whenever the same weights would become another model."""


class OnnxImageTower:
    """An `ImageTower` that ONNX Runtime runs on the CPU, on as many threads as PyTorch uses.

    Args:
        path: Its model, as `write_graph` makes it.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that wait actively would take the cores from the decoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: Tensor) -> Tensor:
        """Runs it; in and out as `ImageTower`."""
        (name,) = (given.name for given in self._session.get_inputs())
        (layers,) = self._session.run(None, {name: pixels.float().numpy()})
        return torch.from_numpy(layers)


def load_onnx_tower(clip: LoadedClip, layers: int, fingerprint: str) -> OnnxImageTower:
    """Opens the int8 model of a CLIP, and makes it first if the cache has none: some seconds, 100 MB for ViT-B/32.

    Args:
        clip: The CLIP.
        layers: K.
        fingerprint: Of its weights.

    Raises:
        BackboneError: If ONNX Runtime is not installed, or the cache cannot be written.
    """
    if not all(map(find_spec, ("onnx", "onnxruntime"))):
        raise BackboneError("onnx-int8: ONNX Runtime is not installed; pip install 'r2tuning[onnx]'")
    path = cache_folder() / "engines" / f"{fingerprint}-k{layers}-int8-v{ONNX_VERSION}.onnx"
    if path.is_file():
        try:
            return OnnxImageTower(path)
        except Exception:  # of ONNX Runtime's own kinds: the file is damaged, or of another version
            path.unlink(missing_ok=True)
    from r2tuning.backbone.onnx_graph import write_graph

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_graph(part, clip.tower(IMAGE, "cpu", torch.float32), clip.image, layers, quantized=True)
        part.replace(path)
    except OSError as error:
        raise BackboneError(f"{path}: cannot be written ({error}); set R2TUNING_CACHE to another folder") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return OnnxImageTower(path)
