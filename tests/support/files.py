"""Files: those beside a checkout, which are never committed (videos, annotations), and what tests read from theirs."""

import csv
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared_file(name: str) -> Path:
    """The file ``name`` of the shared material, or a skipped test where there is none."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"../shared/{name} is not beside this checkout")
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_texts(path: Path) -> list[str]:
    """All texts of an SVG."""
    return ["".join(node.itertext()) for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]
