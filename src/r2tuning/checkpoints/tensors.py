"""What every tensor read from a file must satisfy, whatever the file's format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeGuard

import torch

from r2tuning.errors import CheckpointError

_NAMED = 3  # keys a message names before it only counts


def take_tensors(
    found: Mapping[str, object], expected: Mapping[str, tuple[int, ...]], source: Path
) -> dict[str, torch.Tensor]:
    """Exactly the expected tensors, as fp32 on the CPU, each with memory of its own.

    Args:
        found: Names and values as they came from the file.
        expected: Names and shapes of a fitting model; the result has their order.
        source: The file or folder, for messages.

    Raises:
        CheckpointError: If a key is missing, left over, of another shape, not a plain float tensor, or not finite. The
            message names the first keys of each kind and counts the rest.

    Example:
        >>> take_tensors({"gate": torch.zeros(3, dtype=torch.float16)}, {"gate": (3,)}, Path("a.pth"))
        {'gate': tensor([0., 0., 0.])}
        >>> take_tensors({"gate": torch.zeros(4)}, {"gate": (3,)}, Path("a.pth"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        r2tuning.errors.CheckpointError: a.pth: wrong shape: 'gate' is [4], expected [3]; ...
    """
    tensors = {name: value for name, value in found.items() if _is_plain(value)}
    problems = [
        _list_problem("missing", (repr(name) for name in expected if name not in found)),
        _list_problem("unexpected", (repr(name) for name in found if name not in expected)),
        _list_problem("not a plain float tensor:", (repr(n) for n in expected if n in found and n not in tensors)),
        _list_problem(
            "wrong shape:",
            (
                f"{name!r} is {list(tensors[name].shape)}, expected {list(shape)}"
                for name, shape in expected.items()
                if name in tensors and tuple(tensors[name].shape) != shape
            ),
        ),
    ]
    if any(problems):
        text = "; ".join(problem for problem in problems if problem)
        raise CheckpointError(f"{source}: {text}; these are not the weights of an R²-Tuning model of this shape")
    # Shapes are checked before values are copied: a tensor with stride 0 may claim any size.
    taken = {name: tensors[name].detach().to(torch.float32, copy=True).contiguous() for name in expected}
    infinite = _list_problem("NaN or infinite values in", (repr(n) for n, t in taken.items() if not t.isfinite().all()))
    if infinite:
        raise CheckpointError(f"{source}: {infinite}; use a checkpoint from before training diverged")
    return taken


def _is_plain(value: object) -> TypeGuard[torch.Tensor]:
    return (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.layout is torch.strided
        and value.device.type == "cpu"
    )


def _list_problem(what: str, keys: Iterable[str]) -> str:
    """``what key, key, key and 4 more``, or nothing where there are no keys."""
    keys = list(keys)
    if not keys:
        return ""
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{what} {', '.join(keys[:_NAMED])}{more}"
