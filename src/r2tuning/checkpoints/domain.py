"""The distribution of the frames that a model was trained on, to recognize videos that look unlike all of them.

The distance of a frame is its Mahalanobis distance (P. C. Mahalanobis, 1936) to the training frames. The covariance is
shrunk towards a multiple of the identity as Ledoit and Wolf (2004) show to be optimal, so that few frames suffice and
it is never singular.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from r2tuning.checkpoints.folder import take_tensors
from r2tuning.errors import CheckpointError, show_on_one_line
from r2tuning.files import guard, require_regular, write_atomically

DOMAIN_FILE = "domain.safetensors"
"""Optional file of a checkpoint folder."""

INSIDE = 0.95
"""Share of frames like the training frames that count as inside."""

MIDDLE = 0.92
"""Median squared distance of a video's frames, in thresholds, from which it is outside.

Of 96 new videos of the demo's world, the farthest is at 0.88; of nine real and test videos, such as a kitchen and a
landscape, the nearest is at 0.93. The value was chosen on these videos. Pieces of one to three frames are taken for
another world in 5 to 8 % of cases.
"""

_LONGEST_WORLD = 200  # characters, since warnings quote it


@dataclass(frozen=True, eq=False)
class Domain:
    """The distribution of a model's training frames, by the last layer's [CLS] feature.

    Attributes:
        mean: fp32 ``[Dv]``.
        whitening: fp32 ``[Dv, Dv]``; centered features times this have unit covariance.
        threshold: fp32 scalar; a frame with a larger squared distance is outside.
        world: What the frames show, for messages.
    """

    mean: Tensor
    whitening: Tensor
    threshold: Tensor
    world: str

    @classmethod
    def fit(cls, features: Tensor, held_out: Tensor, world: str) -> Domain:
        """Fits the distribution to examples.

        Args:
            features: ``[N, Dv]``, of training frames, N ≥ 2.
            held_out: ``[M, Dv]``, of similar frames from other videos, M ≥ 1; `INSIDE` of them will be inside.
            world: What the frames show, such as ``videos of moving colored shapes``.

        Example:
            >>> frames = torch.tensor([[0.0, 0], [2, 0], [0, 2], [2, 2]])
            >>> domain = Domain.fit(frames, frames, "a square")
            >>> domain.mean.tolist(), domain.is_outside(frames / 9 + 1), domain.is_outside(frames + 9)
            ([1.0, 1.0], False, True)
        """
        if len(features) < 2 or len(held_out) < 1:
            raise ValueError(f"{len(features)} and {len(held_out)} frames are too few; give at least 2 and 1")
        mean = features.double().mean(dim=0)
        values, vectors = torch.linalg.eigh(_shrink(features.double() - mean))
        whitening = vectors * values.clamp_min(torch.finfo(torch.float32).tiny).rsqrt()
        domain = cls(mean.float(), whitening.float(), torch.tensor(0.0), world)
        # torch.quantile refuses more than 16 million values; sorting does not.
        distances = domain.measure(held_out).sort().values
        threshold = distances[min(len(distances) - 1, int(INSIDE * len(distances)))]
        return cls(domain.mean, domain.whitening, threshold.float(), world)

    def measure(self, features: Tensor) -> Tensor:
        """Squared Mahalanobis distances, fp64 ``[T]``, of frames' features ``[T, Dv]``."""
        return ((features.double() - self.mean.double()) @ self.whitening.double()).square().sum(dim=1)

    def is_outside(self, features: Tensor) -> bool:
        """Whether a video whose frames have features ``[T, Dv]``, T ≥ 1, is unlike all training videos.

        It is if the median frame is far from the training frames (`MIDDLE`).
        """
        return bool(self.measure(features).median() > MIDDLE * self.threshold.double())

    def save(self, path: str | Path) -> None:
        """Writes a file; named `DOMAIN_FILE` in a checkpoint folder, it is loaded with the checkpoint."""
        tensors = {"mean": self.mean, "whitening": self.whitening.contiguous(), "threshold": self.threshold}
        write_atomically(path, save(tensors, metadata={"world": self.world}), force=True)

    @classmethod
    def load(cls, path: str | Path, width: int) -> Domain | None:
        """Reads a file written by `save` for a model whose Dv is ``width``; None if there is no such file."""
        path = Path(path)
        if not path.exists():
            return None
        with guard(path, CheckpointError, "copy it again, or fit it again"):
            require_regular(path)
            with safe_open(path, "pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
                world = (file.metadata() or {}).get("world")
            if world is None:
                raise ValueError("does not say what its frames show")
        shapes = {"mean": (width,), "whitening": (width, width), "threshold": ()}
        return cls(**take_tensors(found, shapes, path), world=show_on_one_line(world, _LONGEST_WORLD))


def _shrink(centered: Tensor) -> Tensor:
    """Covariance ``[D, D]`` of centered samples ``[N, D]``, shrunk as Ledoit and Wolf do (Lemma 3.2 to 3.4)."""
    samples, width = centered.shape
    covariance = centered.T @ centered / samples
    scale = covariance.diagonal().mean()
    target = scale * torch.eye(width, dtype=covariance.dtype)
    distance = (covariance - target).square().sum()
    # Mean over the samples of ‖x xᵀ - S‖², where ‖x xᵀ‖² = (xᵀx)² and the mean of x xᵀ is S.
    noise = (centered.square().sum(dim=1).square().mean() - covariance.square().sum()) / samples
    share = float((noise / distance).clamp(0, 1)) if distance > 0 else 1.0
    return share * target + (1 - share) * covariance
