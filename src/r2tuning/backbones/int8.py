"""The image tower in 8-bit integers, run by ONNX Runtime; its model is made once and cached."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime
import torch
from torch import Tensor, nn

from r2tuning.backbones.loading import IMAGE, LoadedClip
from r2tuning.backbones.vit import ImageTower, ImageTowerConfig
from r2tuning.errors import BackboneError
from r2tuning.files import cache_folder, replace_file

VERSION = 2
"""Part of the name of a cached model; raised whenever the same weights would give another model."""

OPSET = 17
"""The first version of ONNX with layer normalization."""


class Int8ImageTower:
    """An `ImageTower` that ONNX Runtime runs on the CPU, with as many threads as PyTorch uses.

    Args:
        path: Its model, written by `write_int8_model`.
    """

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Spinning threads would take the cores from the decoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: Tensor) -> Tensor:
        """Runs the tower; shapes as for `ImageTower`."""
        (layers,) = self._session.run(None, {"pixels": pixels.float().numpy()})
        return torch.from_numpy(layers)


def load_int8_tower(clip: LoadedClip, layers: int, fingerprint: str) -> Int8ImageTower:
    """Opens the cached int8 model of a CLIP. The first time, makes it: ten seconds or more, 100 MB for ViT-B/32.

    Args:
        clip: The CLIP.
        layers: K.
        fingerprint: Of its weights.

    Raises:
        BackboneError: If the cache cannot be written.
    """
    path = cache_folder() / "engines" / f"{fingerprint}-k{layers}-int8-v{VERSION}.onnx"
    if path.is_file():
        try:
            return Int8ImageTower(path)
        except Exception:  # of ONNX Runtime's own kinds: the file is damaged
            path.unlink(missing_ok=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path, error=BackboneError) as part:
            write_int8_model(part, clip.tower(IMAGE, "cpu", torch.float32), clip.image, layers)
    except OSError as error:
        raise BackboneError(f"{path}: cannot be written ({error}); set R2TUNING_CACHE to another folder") from error
    return Int8ImageTower(path)


def write_int8_model(path: Path, weights: Mapping[str, Tensor], config: ImageTowerConfig, layers: int) -> None:
    """Writes the image tower as an ONNX model with int8 products.

    The weights of the linear layers become int8 with one scale per output channel; their inputs become uint8 with a
    scale and zero point per batch. Everything else stays fp32.

    Args:
        path: File to write.
        weights: fp32, named as in `ImageTowerConfig.shapes`.
        config: Shape of the tower.
        layers: K.
    """
    from onnxruntime.quantization import quant_pre_process, quantize_dynamic  # slow, and not needed to run the model

    pixels = torch.zeros(2, 3, config.image_size, config.image_size)
    with TemporaryDirectory(dir=path.parent, prefix=".") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter, which PyTorch recommends here, needs onnxscript
        plain = Path(folder) / "fp32.onnx"
        torch.onnx.export(
            _TowerModule(weights, config, layers),
            (pixels,),
            str(plain),
            input_names=["pixels"],
            output_names=["layers"],
            dynamic_axes={"pixels": {0: "n"}, "layers": {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
        quant_pre_process(plain, plain, skip_optimization=True, skip_symbolic_shape=True)
        # 7-bit weights: with 8 bits, x86 processors without VNNI clip the sums of two products.
        quantize_dynamic(plain, path, ["MatMul"], per_channel=True, reduce_range=True)


class _TowerModule(nn.Module):
    """An `ImageTower` with its weights as parameters: the exporter stores those where the quantizer looks."""

    def __init__(self, weights: Mapping[str, Tensor], config: ImageTowerConfig, layers: int) -> None:
        super().__init__()
        self._names = list(weights)
        self._values = nn.ParameterList(nn.Parameter(value, requires_grad=False) for value in weights.values())
        self._config = config
        self._layers = layers

    def forward(self, pixels: Tensor) -> Tensor:
        return ImageTower(dict(zip(self._names, self._values, strict=True)), self._config, self._layers)(pixels)
