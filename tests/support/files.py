"""Files: those beside a checkout, which are never committed (videos, annotations), and what tests read from theirs."""

import csv
import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared_file(name: str) -> Path:
    """The file ``name`` of the shared material, or a skipped test where there is none."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"../shared/{name} is not beside this checkout")
    return path


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """Puts a file system in memory at a new folder, with options of ``mount``; skips the test where that is refused."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no file system can be mounted here: run the tests as root of a machine or a user namespace")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """A new folder in which nothing can be written; root can, unless the whole disk is read-only."""
    if os.geteuid() == 0:
        with small_disk(folder, "ro") as disk:
            yield disk
        return
    folder.mkdir()
    folder.chmod(0o555)
    yield folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_texts(path: Path) -> list[str]:
    """All texts of an SVG."""
    return ["".join(node.itertext()) for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]
