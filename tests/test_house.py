"""The files around the code say the same thing as each other and as the code."""

import ast
import importlib.metadata
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import r2tuning

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


def declared(*extras: str) -> list[Requirement]:
    """What r2tuning, with these extras, asks for itself."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != "r2tuning"]


def names(requirements: list[Requirement], python: str | None = None) -> list[str]:
    """Canonical names of the requirements that hold for this Python version, or of all."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    holds = [r for r in requirements if not (python and r.marker) or r.marker.evaluate(environment)]
    return [canonicalize_name(requirement.name) for requirement in holds]


def test_every_constraint_is_one_exact_version() -> None:
    for requirement in CONSTRAINTS:
        assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), requirement


def test_constraints_pin_torch_without_cuda() -> None:
    assert [str(r) for r in CONSTRAINTS if r.name == "torch"] == ["torch==2.13.0"]
    assert [r.name for r in CONSTRAINTS if r.name.startswith(("nvidia-", "cuda-", "triton"))] == []
    assert [r.name for r in CONSTRAINTS if r.name in ("torchvision", "torchaudio")] == []


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_constraints_name_each_dependency_once_for_each_python(python: str) -> None:
    pinned = names(CONSTRAINTS, python)
    assert len(pinned) == len(set(pinned))
    assert set(names(declared(*EXTRAS), python)) <= set(pinned)


def test_constraints_fit_pyproject() -> None:
    for wanted in declared(*EXTRAS):
        pins = [pin for pin in CONSTRAINTS if names([pin]) == names([wanted])]
        assert pins, f"{wanted} is not pinned"
        for pin in pins:
            version = str(pin.specifier).removeprefix("==")
            assert wanted.specifier.contains(version), f"{wanted} is pinned to {version}"


def find_owners() -> dict[str, set[str]]:
    """Canonical names of the distributions that install each module.

    `importlib.metadata.packages_distributions` of Python 3.10 knows only those with a file ``top_level.txt``.
    """
    owners: dict[str, set[str]] = {}
    for distribution in importlib.metadata.distributions():
        owner = canonicalize_name(distribution.name)  # reads the metadata each time
        for top in {file.parts[0].partition(".")[0] for file in distribution.files or ()}:
            owners.setdefault(top, set()).add(owner)
    return owners


def test_source_imports_only_declared_distributions() -> None:
    users = set(names(declared(*(extra for extra in EXTRAS if extra != "dev"))))
    owners = find_owners()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"r2tuning"}:
                assert owners.get(top, set()) & users, (
                    f"{path.name} imports {top}, which pyproject.toml does not declare"
                )


def test_package_data_covers_every_file_that_is_not_python() -> None:
    package = ROOT / "src" / "r2tuning"
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["r2tuning"]
    files = [p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()]
    data = [file for file in files if not file.endswith((".py", ".pyc"))]
    assert "py.typed" in data
    assert [file for file in data if not any(fnmatch(file, pattern) for pattern in patterns)] == []


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^(\$ )?make test\b", readme, re.MULTILINE)
    assert re.search(r"^section .* make test$", ci, re.MULTILINE)


def test_changelog_has_the_version() -> None:
    assert r2tuning.__version__ == PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(PROJECT['version'])}\] - (Unreleased|\d{{4}}-\d{{2}}-\d{{2}})$"
    assert re.search(heading, changelog, re.MULTILINE)
