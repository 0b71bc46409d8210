"""Where to run."""

import torch

from r2tuning.errors import BackboneError


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
