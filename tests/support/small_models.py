"""Small models of any shape with weights that matter: every gate open, no bias zero, no norm plain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hypothesis import strategies as st
from torch import Generator, Tensor, nn, randn

from r2tuning.model import R2Config, R2Tuning


@contextmanager
def float64() -> Iterator[None]:
    """New tensors are float64, so that the rounding that LayerNorms of few channels amplify hides no difference."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@st.composite
def configs(draw: st.DrawFn, **fixed: object) -> R2Config:
    """Shapes of small models of both families; ``fixed`` fields are taken as they are."""
    family = draw(st.sampled_from(["grounding", "saliency"]))
    heads = draw(st.sampled_from([1, 2]))
    shape = {
        "family": family,
        "video_width": draw(st.integers(3, 8)),
        "query_width": draw(st.integers(3, 8)),
        "layers": draw(st.integers(1, 4)),
        "hidden": 2 * heads * draw(st.integers(2, 8 // heads)),
        "heads": heads,
        "strides": (1, 2, 4, 8)[: draw(st.integers(1, 4))] if family == "grounding" else (1,),
    }
    return R2Config(**shape | fixed)


def small_model(config: R2Config, seed: int) -> R2Tuning:
    """A model in evaluation mode with seeded weights."""
    generator = Generator().manual_seed(seed)
    model = R2Tuning(config).eval()
    norms = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        noise = randn(parameter.shape, generator=generator)
        if name in norms or name == "level_scale":
            parameter.data = 1 + 0.1 * noise
        elif name.endswith("gate"):
            parameter.data = noise
        elif parameter.dim() == 1:
            parameter.data = 0.1 * noise
        else:
            parameter.data = noise / parameter[0].numel() ** 0.5
    return model


def features(config: R2Config, batch: int, frames: int, patches: int, tokens: int, seed: int) -> tuple[Tensor, Tensor]:
    """Seeded video ``[B, K, T, P+1, Dv]`` and query ``[B, K, L, Dq]``."""
    generator = Generator().manual_seed(seed)
    video = randn(batch, config.layers, frames, patches + 1, config.video_width, generator=generator)
    query = randn(batch, config.layers, tokens, config.query_width, generator=generator)
    return video, query
