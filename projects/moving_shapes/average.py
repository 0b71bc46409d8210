"""Averages the weights of checkpoints: ``python -m projects.moving_shapes.average``.

Trainings that went on from the same weights end in different places around the same optimum, and each has learned some
of its batches by heart; their mean is nearer to it than most of them. It costs nothing when the model is asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from r2tuning.checkpoints import read_checkpoint, save_checkpoint
from r2tuning.errors import CheckpointError


def average_weights(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each weight.

    Args:
        states: With the same names and shapes.

    Example:
        >>> average_weights([{"bias": torch.tensor([1.0, 2.0])}, {"bias": torch.tensor([3.0, 2.0])}])
        {'bias': tensor([2., 2.])}
    """
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        for name, value in states[0].items()
    }


def average_checkpoints(checkpoints: Sequence[str], folder: Path) -> None:
    """Writes the mean of checkpoints; all else is as the first says.

    Args:
        checkpoints: As `read_checkpoint` takes them, of one shape.
        folder: Of the checkpoint to write.

    Raises:
        CheckpointError: If they are not of one shape.
    """
    (config, model), *others = (read_checkpoint(name) for name in checkpoints)
    for name, (_, other) in zip(checkpoints[1:], others, strict=True):
        if other.config != model.config:
            raise CheckpointError(
                f"{name}: is of another shape than {checkpoints[0]}; average checkpoints of one model"
            )
    states = [each.state_dict() for each in (model, *(other for _, other in others))]
    save_checkpoint(folder, average_weights(states), config)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the mean")
    parser.add_argument("checkpoints", nargs="+")
    arguments = parser.parse_args()
    average_checkpoints(arguments.checkpoints, arguments.folder)
