"""The image tower as an ONNX graph, whose matrix products are of 8-bit integers or of fp32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, save_model
from torch import Tensor

from r2tuning.backbones.loading import IMAGE, LoadedClip
from r2tuning.backbones.vit import ImageTowerConfig, merge_projections
from r2tuning.errors import BackboneError
from r2tuning.files import cache_folder, replace_file

ONNX_VERSION = 1
"""Raised whenever the same weights would become another model."""

OPSET, IR = 20, 9
"""Versions of the format, which every ONNX Runtime reads since 1.17."""

PIXELS, LAYERS = "pixels", "layers"
"""Names of the graph's input and output."""

LARGEST = 63
"""Of the integers that weights become: with 127, x86 processors without VNNI would cut off sums of two products."""


def write_graph(
    path: Path, weights: Mapping[str, Tensor], config: ImageTowerConfig, layers: int, *, quantized: bool
) -> None:
    """Writes the image tower as an ONNX model, from ``[n, 3, S, S]`` to ``[n, K, P+1, Dv]`` as `ImageTower`.

    Quantized, the weights of the blocks' linear layers become int8, each output channel with a scale of its own, and
    what is multiplied with them becomes uint8, with scale and zero of each batch. All else stays fp32.

    Args:
        path: File to write.
        weights: fp32, by the names of `ImageTowerConfig.shapes`.
        config: Shape of the tower.
        layers: K.
        quantized: Whether to use 8-bit integers.
    """
    save_model(_Graph(weights, config, quantized).build(layers), path)


class _Graph:
    """A graph in the making; every method adds nodes and returns the name of what the last one puts out."""

    def __init__(self, weights: Mapping[str, Tensor], config: ImageTowerConfig, quantized: bool) -> None:
        weights = dict(weights)
        self._blocks = [merge_projections(weights, layer) for layer in range(config.num_hidden_layers)]
        self._weights = {name: value.numpy() for name, value in weights.items()}
        self._config = config
        self._quantized = quantized
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def build(self, layers: int) -> ModelProto:
        config, weights = self._config, self._weights
        side, width, tokens = config.image_size, config.hidden_size, config.tokens
        step = config.patch_size
        kernel = self._constant(weights["embeddings.patch_embedding.weight"])
        patches = self._add("Conv", PIXELS, kernel, kernel_shape=[step, step], strides=[step, step])
        patches = self._add("Transpose", self._reshape(patches, 0, width, -1), perm=[0, 2, 1])
        # [CLS] and the positions are added to a zero row before the patches, which needs no number of images.
        pads = np.array([0, 1, 0, 0, 0, 0])
        places = weights["embeddings.position_embedding.weight"].copy()
        places[0] += weights["embeddings.class_embedding"]
        hidden = self._add("Add", self._add("Pad", patches, self._constant(pads)), self._constant(places))
        hidden = self._normalize(hidden, weights["pre_layrnorm.weight"], weights["pre_layrnorm.bias"])
        outputs = []
        for block in self._blocks:
            hidden = self._add_block(hidden, {name: value.numpy() for name, value in block.items()})
            outputs.append(self._add("Unsqueeze", hidden, self._constant(np.array([1]))))
        self._nodes.append(helper.make_node("Concat", outputs[-layers:], [LAYERS], axis=1))
        graph = helper.make_graph(
            self._nodes,
            "image tower",
            [helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, ["n", 3, side, side])],
            [helper.make_tensor_value_info(LAYERS, TensorProto.FLOAT, ["n", layers, tokens, width])],
            self._constants,
        )
        return helper.make_model(graph, ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)])

    def _add_block(self, hidden: str, block: Mapping[str, NDArray[np.float32]]) -> str:
        normalized = self._normalize(hidden, block["layer_norm1.weight"], block["layer_norm1.bias"])
        hidden = self._add("Add", hidden, self._attend(normalized, block))
        inner = self._normalize(hidden, block["layer_norm2.weight"], block["layer_norm2.bias"])
        inner = self._activate(self._multiply(inner, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
        return self._add("Add", hidden, self._multiply(inner, block["mlp.fc2.weight"], block["mlp.fc2.bias"]))

    def _attend(self, normalized: str, block: Mapping[str, NDArray[np.float32]]) -> str:
        config = self._config
        heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        projected = self._multiply(normalized, block["qkv.weight"], block["qkv.bias"])
        query, key, value = self._split(self._reshape(projected, 0, 0, 3 * heads, size))
        query = self._add("Mul", query, self._constant(np.float32(size**-0.5)))
        scores = self._add("MatMul", self._transpose(query, 0, 2, 1, 3), self._transpose(key, 0, 2, 3, 1))
        attended = self._add("MatMul", self._add("Softmax", scores, axis=-1), self._transpose(value, 0, 2, 1, 3))
        joined = self._reshape(self._transpose(attended, 0, 2, 1, 3), 0, 0, config.hidden_size)
        return self._multiply(joined, block["self_attn.out_proj.weight"], block["self_attn.out_proj.bias"])

    def _split(self, name: str) -> list[str]:
        outputs = [f"{name}_{part}" for part in "qkv"]
        self._nodes.append(helper.make_node("Split", [name], outputs, axis=2, num_outputs=3))
        return outputs

    def _activate(self, inner: str) -> str:
        if self._config.hidden_act == "gelu":
            return self._add("Gelu", inner)
        gate = self._add("Sigmoid", self._add("Mul", inner, self._constant(np.float32(1.702))))
        return self._add("Mul", inner, gate)

    def _multiply(self, hidden: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """``hidden @ weight.T + bias``."""
        if not self._quantized:
            product = self._add("MatMul", hidden, self._constant(weight.T))
            return self._add("Add", product, self._constant(bias))
        scale = np.abs(weight).max(axis=1) / LARGEST
        scale[scale == 0] = 1  # of a channel that is all zero
        integers = np.round(weight / scale[:, None]).astype(np.int8).T
        coded = [f"{hidden}_{len(self._nodes)}_{part}" for part in ("integers", "scale", "zero")]
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [hidden], coded))
        product = self._add("MatMulInteger", coded[0], self._constant(integers), coded[2])
        product = self._add("Cast", product, to=TensorProto.FLOAT)
        scales = self._add("Mul", coded[1], self._constant(scale.astype(np.float32)))
        return self._add("Add", self._add("Mul", product, scales), self._constant(bias))

    def _normalize(self, hidden: str, scale: NDArray[np.float32], shift: NDArray[np.float32]) -> str:
        names = self._constant(scale), self._constant(shift)
        return self._add("LayerNormalization", hidden, *names, axis=-1, epsilon=self._config.layer_norm_eps)

    def _reshape(self, name: str, *shape: int) -> str:
        return self._add("Reshape", name, self._constant(np.array(shape)))

    def _transpose(self, name: str, *order: int) -> str:
        return self._add("Transpose", name, perm=order)

    def _constant(self, value: NDArray[np.generic] | np.float32) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def _add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name


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
        BackboneError: If the cache cannot be written.
    """
    path = cache_folder() / "engines" / f"{fingerprint}-k{layers}-int8-v{ONNX_VERSION}.onnx"
    if path.is_file():
        try:
            return OnnxImageTower(path)
        except Exception:  # of ONNX Runtime's own kinds: the file is damaged, or of another version
            path.unlink(missing_ok=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path, error=BackboneError) as part:
            write_graph(part, clip.tower(IMAGE, "cpu", torch.float32), clip.image, layers, quantized=True)
    except OSError as error:
        raise BackboneError(f"{path}: cannot be written ({error}); set R2TUNING_CACHE to another folder") from error
    return OnnxImageTower(path)
