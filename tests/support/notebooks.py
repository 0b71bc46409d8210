"""Executes the notebooks of ``examples/``, and writes their outputs into them.

A notebook is committed with its outputs. After a change of a notebook, or of what it shows, execute it again.

Usage: PYTHONPATH=tests python -m support.notebooks [NAME …]
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from PIL import Image

import r2tuning

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECONDS = 600
"""Longest time for one cell, on a machine that does other things too."""


def read(path: Path) -> NotebookNode:
    """The notebook of a file."""
    return nbformat.read(path, as_version=4)


def list_code(notebook: NotebookNode) -> list[NotebookNode]:
    """Its code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@contextmanager
def set_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of the environment, which a kernel inherits, for a while."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def execute(path: Path, place: Path, ask: str = "None") -> tuple[NotebookNode, Any]:
    """Runs all cells in a fresh kernel, in the notebook's folder; a cell that fails is a ``CellExecutionError``.

    The kernel reads no settings of the user, and there is no hub that it could ask.

    Args:
        path: The notebook, which is not changed.
        place: Folder for temporary files.
        ask: An expression, evaluated before the last cell, which removes the notebook's files.

    Returns:
        The notebook with its outputs, and the value of the expression, which must be one that JSON has.
    """
    notebook = read(path)
    for cell in list_code(notebook):
        cell.outputs, cell.execution_count = [], None
    asked = new_code_cell(f"import json as _json\nprint(_json.dumps({ask}))")
    notebook.cells.insert(len(notebook.cells) - 1, asked)
    own = {name: str(place / name) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    temporary = place / "temporary"
    temporary.mkdir(parents=True)
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "R2TUNING_CACHE": str(place / "cache")}
    offline["TORCHINDUCTOR_CACHE_DIR"] = str(place / "torch")  # PyTorch makes it where temporary files are
    # The package that is tested, from another working folder; one thread, because sums depend on the number of threads.
    ours = {"PYTHONPATH": str(Path(r2tuning.__file__).parents[1]), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    with set_environment({**own, **offline, **ours}):
        options = {"timeout": SECONDS, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
        NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}, **options).execute()
    notebook.cells.remove(asked)
    return notebook, json.loads(read_text(asked))


def clean(notebook: NotebookNode) -> NotebookNode:
    """Leaves out what changes from run to run: versions and names of this machine, and numbers of executions."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
    for number, cell in enumerate(list_code(notebook), start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
            if "metadata" in output:
                width = output.metadata.get("image/png", {}).get("width")
                output.metadata = nbformat.from_dict({"image/png": {"width": width}} if width else {})
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = shrink(output.data["image/png"])
    return notebook


def shrink(picture: str) -> str:
    """A PNG picture in base64 with at most 128 colors, so that the repository stays small."""
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "P":
        return picture
    file = io.BytesIO()
    image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def read_text(cell: NotebookNode) -> str:
    """All that a code cell printed or showed, but for pictures."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type in ("execute_result", "display_data"):
            data = output.data
            shown = data.get("text/html", data.get("text/markdown", data["text/plain"]))
            parts.append(re.sub(r"<(Figure|IPython)[^>]*>", r"<\1>", shown))
    return "\n".join(parts)


def list_pictures(cell: NotebookNode) -> list[str]:
    """Kinds of the pictures that a code cell showed."""
    return [kind for output in cell.outputs for kind in output.get("data", {}) if kind.startswith("image/")]


def main(names: list[str]) -> None:
    """Executes notebooks and replaces their files."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        if not names or path.stem in names:
            with tempfile.TemporaryDirectory() as place:
                notebook, _ = execute(path, Path(place))
            nbformat.write(clean(notebook), path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main(sys.argv[1:])
