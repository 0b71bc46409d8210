"""Where and how to run."""

import torch

from r2tuning.errors import BackboneError
from r2tuning.types import Engine

_WORTH = 512
"""Width from which a CLIP is slow enough to matter; the results of smaller ones are the same on every machine."""


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device to run on.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` …; None for the GPU where there is one.

    Raises:
        BackboneError: If there is no such device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise BackboneError(f"{device}: not a device; give cpu, cuda, or cuda:1 for the second GPU") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise BackboneError(f"{device}: PyTorch sees {torch.cuda.device_count()} GPUs here; give --device cpu")
    return chosen


def choose_engine(device: torch.device, width: int) -> Engine:
    """What runs CLIP's image tower fastest, of what keeps its features within a cosine of 0.999 of fp32.

    That is bf16 on processors that have units for it (AMX), and else what was published: without them bf16 is slower,
    and 8 bits are not near enough on every CLIP (docs/benchmarks.md).

    Args:
        device: Where it runs.
        width: Of the tower.

    Example:
        >>> choose_engine(torch.device("cuda"), 768), choose_engine(torch.device("cpu"), 160)
        ('torch', 'torch')
    """
    # PyTorch has no public name for this question, and old versions have none at all.
    find_units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "torch-bf16" if device.type == "cpu" and width >= _WORTH and find_units() else "torch"
