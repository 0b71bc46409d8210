"""The image tower in 8-bit integers, run by ONNX Runtime; its model is made once and cached."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime
import torch
from torch import Tensor, nn

from r2tuning.backbones.vit import ImageTowerConfig, Tower
from r2tuning.errors import BackboneError
from r2tuning.files import cache_folder, replace_file

VERSION = 2
"""Part of the name of a cached model; raised whenever the same weights would give another model."""

OPSET = 17
"""The first version of ONNX with layer normalization."""


class Int8ImageTower:
    """An image tower that ONNX Runtime runs on the CPU, with as many threads as PyTorch uses.

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
        """Runs the tower; shapes as for the tower that it was made from."""
        (layers,) = self._session.run(None, {"pixels": pixels.float().numpy()})
        return torch.from_numpy(layers)


def load_int8_tower(fingerprint: str, layers: int, load_tower: Callable[[], Tower]) -> Int8ImageTower:
    """Opens the cached int8 model of an image tower. The first time, makes it: ten seconds or more, 100 MB.

    Args:
        fingerprint: Of the backbone's weights.
        layers: K.
        load_tower: Loads the image tower, fp32 on the CPU.

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
            write_int8_model(part, load_tower())
    except OSError as error:
        raise BackboneError(f"{path}: cannot be written ({error}); set R2TUNING_CACHE to another folder") from error
    return Int8ImageTower(path)


def write_int8_model(path: Path, tower: Tower) -> None:
    """Writes an image tower, fp32, as an ONNX model with int8 products.

    The weights of the linear layers become int8 with one scale per output channel; their inputs become uint8 with a
    scale and zero point per batch. Everything else stays fp32.
    """
    from onnxruntime.quantization import quant_pre_process, quantize_dynamic  # slow, and not needed to run the model

    assert isinstance(tower.config, ImageTowerConfig)
    pixels = torch.zeros(2, 3, tower.config.image_size, tower.config.image_size)
    with TemporaryDirectory(dir=path.parent, prefix=".") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter, which PyTorch recommends here, needs onnxscript
        plain = Path(folder) / "fp32.onnx"
        torch.onnx.export(
            _TowerModule(tower),
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
    """A tower with its weights as parameters: the exporter stores those where the quantizer looks."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        values = (nn.Parameter(value, requires_grad=False) for value in tower.weights.values())
        self._values = nn.ParameterList(values)
        self._tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        weights = dict(zip(self._tower.weights, self._values, strict=True))
        return type(self._tower)(weights, self._tower.config, self._tower.layers)(pixels)
