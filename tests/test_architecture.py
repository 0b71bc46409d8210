"""The rules of the source tree, read from its syntax: who may import whom, and how files look."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "r2tuning"

# A package, or a module beside the packages, imports only from lower tiers, never a sibling of its own tier.
TIERS = (
    ("types", "errors", "intervals"),
    ("files", "hub", "processes"),
    ("video", "backbones", "model", "decoding", "metrics"),
    ("features", "checkpoints", "prediction", "results"),
    ("compatibility", "datasets", "output"),
    ("grounder",),
    ("evaluation", "synthetic", "attention", "library"),
    ("training", "cluster", "caches"),
    ("ablation", "diagnosis"),
    ("server",),
    ("cli",),
)
TIER_OF = {name: tier for tier, names in enumerate(TIERS) for name in names}
# The only upward imports, each with its reason. They stand in a function, so that no import is circular.
EXCEPTIONS = {("results.py", "output"): "`result.save` needs the writers, and the writers need the results"}
ENTRIES = ("__init__", "__main__")  # of r2tuning itself: they open the whole package, so no tier binds them

MAX_LINES = 400
NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "common", "misc"}
HEAVY = ("torch", "transformers", "matplotlib", "av")


@dataclass(frozen=True)
class Module:
    """One parsed source file."""

    path: Path  # relative to the package's folder
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The name that has a tier: the top folder, or the module itself where it lies beside the folders."""
        return self.path.parts[0].removesuffix(".py")


def read_modules(root: Path) -> list[Module]:
    """Parse every source file below the package folder ``root``."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}
    return [Module(path.relative_to(root), text, ast.parse(text)) for path, text in texts.items()]


def imported_names(module: Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every absolute import, those in functions and under TYPE_CHECKING included.

    After ``import r2tuning``, the names are those that its attributes are taken by: ``r2tuning.__version__``.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                hidden = alias.name == "r2tuning" and alias.asname
                yield node.lineno, "r2tuning.*" if hidden else alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            # With the imported name, for `from r2tuning import video` to name the package video.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "r2tuning":
            yield node.lineno, f"r2tuning.{node.attr}"


def check_tier(module: Module) -> Iterator[str]:
    """The module's package has a tier, and what it imports of r2tuning lies lower or in the same package."""
    package = module.package
    if package in ENTRIES:
        return
    if package not in TIER_OF:
        yield f"{package} is in no tier: add it to TIERS"
        return
    for line, name in imported_names(module):
        root, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if root != "r2tuning" or target in (package, "", "__version__"):
            continue
        if target not in TIER_OF:
            yield f"line {line} imports {name}: take it from the module that defines it"
        elif TIER_OF[target] >= TIER_OF[package] and (str(module.path), target) not in EXCEPTIONS:
            tiers = f"(tier {TIER_OF[target]}) into {package} (tier {TIER_OF[package]})"
            yield f"line {line} imports {target} {tiers}"


def stays_inside(call: ast.Call, module: Module) -> bool:
    """Whether an importing call stays in its package: its name begins with ``{__name__}.`` or ``{__package__}.``.

    The package of a module beside the packages is r2tuning itself, so it may not use the latter.
    """
    name = call.args[0] if call.args else None
    starts = ("{__name__}.", "{__package__}.") if len(module.path.parts) > 1 else ("{__name__}.",)
    return isinstance(name, ast.JoinedStr) and ast.unparse(name)[2:].startswith(starts)


def check_visible_imports(module: Module) -> Iterator[str]:
    """Imports are absolute statements: neither relative nor by a call that this test could not follow."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"line {node.lineno} is a relative import"
        elif isinstance(node, ast.Call) and module.package not in ENTRIES:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and not stays_inside(node, module):
                yield f"line {node.lineno} imports by a call: use a statement"


def check_name(module: Module) -> Iterator[str]:
    """Files and folders say what they hold."""
    for part in module.path.with_suffix("").parts:
        if part in NAMES_THAT_SAY_NOTHING:
            yield f"{part} says nothing about what is in it"


def check_length(module: Module) -> Iterator[str]:
    """A file holds one thing."""
    lines = len(module.text.splitlines())
    if lines > MAX_LINES:
        yield f"{lines} lines: over {MAX_LINES}, what second thing is in there?"


def check_print(module: Module) -> Iterator[str]:
    """Only the command line writes to the user's terminal."""
    for node in ast.walk(module.tree):
        is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if is_print and module.package != "cli":
            yield f"line {node.lineno} prints"


RULES: tuple[Callable[[Module], Iterator[str]], ...] = (
    check_tier,
    check_visible_imports,
    check_name,
    check_length,
    check_print,
)


def violations(root: Path) -> list[str]:
    """Every breach of a rule below the package folder ``root``, as ``file: what``."""
    return [f"{module.path}: {what}" for module in read_modules(root) for rule in RULES for what in rule(module)]


def import_all(names: list[str], extra_path: Path | None = None) -> str:
    """Import the modules in order in a fresh interpreter; say which first loads a heavy library, or ''."""
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1].split():\n"
        "    importlib.import_module(name)\n"
        f"    heavy = sorted(set({HEAVY!r}) & sys.modules.keys())\n"
        "    if heavy: sys.exit(f'{name} loads {heavy}')\n"
    )
    environment = os.environ | ({"PYTHONPATH": str(extra_path)} if extra_path else {})
    command = [sys.executable, "-c", script, " ".join(names)]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stderr.strip()


def test_source_keeps_the_rules() -> None:
    assert {"types", "errors", "video", "__init__"} <= {module.package for module in read_modules(PACKAGE)}
    assert violations(PACKAGE) == []


def test_every_exception_is_one_import_in_a_function_and_still_needed() -> None:
    for file, target in EXCEPTIONS:
        (module,) = [module for module in read_modules(PACKAGE) if str(module.path) == file]
        (line,) = {line for line, name in imported_names(module) if name.startswith(f"r2tuning.{target}.")}
        assert module.text.splitlines()[line - 1].startswith("    ")


def test_import_and_command_line_start_without_heavy_libraries() -> None:
    commands = [f"r2tuning.cli.{path.stem}" for path in (PACKAGE / "cli").glob("[!_]*.py")]
    assert import_all(["r2tuning", "r2tuning.types", "r2tuning.errors", "r2tuning.cli", *sorted(commands)]) == ""


def test_a_heavy_import_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "light.py").write_text("import json")
    (tmp_path / "heavy.py").write_text("import av")
    assert import_all(["light", "heavy"], tmp_path) == "heavy loads ['av']"


BREACHES = {
    "upward": ("video/a.py", "from r2tuning.checkpoints import b", "(tier 3) into video (tier 2)"),
    "upward, whole module": ("video/a.py", "import r2tuning.cli.main", "imports cli (tier 10)"),
    "upward, from the root": ("video/a.py", "from r2tuning import grounder", "imports grounder (tier 5)"),
    "sibling": ("video/a.py", "from r2tuning.model.config import C", "imports model (tier 2) into video"),
    "sibling module": ("errors.py", "from r2tuning.types import A", "imports types (tier 0)"),
    "in a function": ("video/a.py", "def f():\n    import r2tuning.features", "line 2 imports features"),
    "for types only": (
        "model/a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from r2tuning.video.a import B",
        "line 3 imports video",
    ),
    "second of two": ("video/a.py", "import json, r2tuning.server", "imports server"),
    "public name": ("training/a.py", "from r2tuning import Grounder", "the module that defines it"),
    "the root": ("training/a.py", "import r2tuning\nr2tuning.Grounder", "line 2 imports r2tuning.Grounder"),
    "a package of the root": ("video/a.py", "import r2tuning\nr2tuning.cli.main", "line 2 imports cli"),
    "the root, renamed": ("training/a.py", "import r2tuning as r", "the module that defines it"),
    "everything": ("cli/a.py", "from r2tuning import *", "the module that defines it"),
    "relative": ("video/a.py", "from .b import c", "relative import"),
    "relative root": ("__init__.py", "from . import types", "relative import"),
    "by a call": ("video/a.py", "import importlib\nimportlib.import_module('r2tuning.cli')", "by a call"),
    "by a call into the root": ("video/__init__.py", "import_module(f'r2tuning.{x}')", "by a call"),
    "by a call into the root's package": ("results.py", "import_module(f'{__package__}.{x}')", "by a call"),
    "upward, beside an exception": ("results.py", "from r2tuning.cli.main import app", "imports cli (tier 10)"),
    "by a builtin": ("video/a.py", "__import__('r2tuning.cli')", "by a call"),
    "unknown package": ("audio/a.py", "", "audio is in no tier"),
    "unknown module": ("extra.py", "", "extra is in no tier"),
    "empty name": ("video/utils.py", "", "utils says nothing"),
    "empty folder name": ("video/common/a.py", "", "common says nothing"),
    "long": ("video/a.py", "x = 1\n" * 401, "401 lines"),
    "print": ("decoding/a.py", "if True:\n    print(1)", "line 2 prints"),
}


@pytest.mark.parametrize(("file", "text", "expected"), BREACHES.values(), ids=BREACHES)
def test_a_breach_is_noticed(tmp_path: Path, file: str, text: str, expected: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"{Path(file)}: ")
    assert expected in found[0]


def test_what_is_allowed_is_not_reported(tmp_path: Path) -> None:
    allowed = {
        "__init__.py": "import importlib\ndef f(): importlib.import_module('r2tuning.cli')",
        "__main__.py": "from r2tuning.cli.main import run",
        "errors.py": "import json",
        "video/probe.py": "from r2tuning import __version__, errors\nfrom r2tuning.video.sample import s",
        "results.py": "def save():\n    from r2tuning.output.registry import a",
        "output/registry.py": "import_module(f'{__package__}.{1}')",
        "video/__init__.py": "from importlib import import_module\nimport_module(f'{__name__}.{1}')",
        "checkpoints/files.py": "from r2tuning.model.config import A\nfrom r2tuning.decoding.decode import B",
        "checkpoints/load.py": "import r2tuning\nr2tuning.__version__",
        "cli/main.py": "from r2tuning.grounder import Grounder\nprint(1)",
        "decoding/moments.py": '"""\n>>> print(1)\n"""\n' + "x = 1\n" * 397,
    }
    for file, text in allowed.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    assert violations(tmp_path) == []
