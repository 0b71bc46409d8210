"""The ``table.json`` of ``r2tuning ablate``, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r2tuning.errors import DataError
from r2tuning.training.seeds import Spread


@dataclass(frozen=True)
class Measured:
    """A cell of an ablation.

    Attributes:
        settings: Keys of the recipe and their values, as they were written.
        spread: Mean and deviation of each metric.
    """

    settings: Mapping[str, str]
    spread: Mapping[str, Spread]


def read_table(path: Path) -> list[Measured]:
    """Cells of a ``table.json`` of ``r2tuning ablate``.

    Raises:
        DataError: If the file cannot be read or is no such table, or if cells failed or are left to be trained.
    """
    try:
        table = json.loads(path.read_bytes())
        left, failed = table["left"], len(table["failed"])
        cells = [
            Measured(cell["settings"], {name: Spread(**spread) for name, spread in cell["metrics"].items()})
            for cell in table["cells"]
        ]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no table ({error!r:.80}); give a table.json of r2tuning ablate") from None
    if left or failed:
        raise DataError(f"{path}: {left} cells left, {failed} failed; run r2tuning ablate again")
    return cells
