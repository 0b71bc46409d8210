"""The site builds without a warning and is complete: public names, commands, the map of the paper, search in files."""

import html
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import types
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.browser import start_browser
from test_docs import COMMANDS, DOCUMENTS, check_options, split_command, without_blocks

import r2tuning
from docs.hooks import allow_breaks, describe_commands, escape, move_links, read_root
from r2tuning import errors

ROOT = Path(__file__).resolve().parents[1]
PAPER = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
WIDE, NARROW = 1280, 390
"""Pixels of the window."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    place = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(place)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return place


def import_name(name: str) -> object:
    """What a dotted name stands for: a module, or something in one."""
    parts = name.split(".")
    found: object = importlib.import_module(parts[0])
    for end in range(1, len(parts)):
        # A function may have the name of its module; the function is what people import.
        if not hasattr(found, parts[end]):
            importlib.import_module(".".join(parts[: end + 1]))
        found = getattr(found, parts[end])
        if isinstance(found, types.FunctionType) and end + 1 < len(parts):
            found = sys.modules[".".join(parts[: end + 1])]
    return found


def public_names() -> Iterator[str]:
    """What the packages export, and every error."""
    yield from (f"r2tuning.{name}" for name in r2tuning.__all__)
    for module in pkgutil.walk_packages(r2tuning.__path__, "r2tuning."):
        if module.ispkg:
            exported = getattr(importlib.import_module(module.name), "__all__", ())
            yield from (f"{module.name}.{name}" for name in exported)
    yield from (f"r2tuning.errors.{name}" for name in vars(errors) if name.endswith(("Error", "Warning")))


def read_inventory(site: Path) -> dict[str, str]:
    """Every name of the reference, and what Sphinx calls its kind."""
    packed = (site / "objects.inv").read_bytes()
    lines = zlib.decompress(packed.split(b"\n", 4)[4]).decode().splitlines()
    return {name: role for name, role, *_ in map(str.split, lines)}


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    names = list(public_names())
    assert {"r2tuning.Grounder", "r2tuning.metrics.auroc", "r2tuning.output.media.cut"} <= set(names)
    inventory = read_inventory(site)
    assert [name for name, role in inventory.items() if role == "py:module"] == [], "a module in place of a function"
    shown = [name for name, role in inventory.items() if role in ("py:class", "py:function", "py:data")]
    documented = [import_name(name) for name in shown]
    missing = [name for name in names if not any(import_name(name) is one for one in documented)]
    assert missing == []


def test_a_name_of_function_and_module_is_told_apart() -> None:
    assert import_name("r2tuning.decoding.decode.suppress_overlaps").__name__ == "suppress_overlaps"
    assert import_name("r2tuning.decode") is r2tuning.decode
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        import_name("r2tuning.training.losses.no_such_loss")


def walk(command: object, path: str) -> Iterator[tuple[str, object]]:
    """Every command below one, with what one types to run it."""
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from walk(command.get_command(None, name), f"{path} {name}")
    else:
        yield path, command


@pytest.mark.slow
def test_every_command_and_option_is_in_the_reference_of_the_command_line(site: Path) -> None:
    page = (site / "command-line.html").read_text(encoding="utf-8")
    sections = {
        html.unescape(re.sub("<.*?>", "", heading)).strip(" ¶"): body
        for heading, body in re.findall(r"<h[23][^>]*>(.*?)</h[23]>(.*?)(?=<h[23]|</article>)", page, re.DOTALL)
    }
    commands = dict(walk(COMMANDS, "r2tuning"))
    assert len(commands) > 25
    for path, command in commands.items():
        terms = " ".join(html.unescape(term) for term in re.findall(r"<dt><code>(.*?)</code></dt>", sections[path]))
        for parameter in command.params:
            for option in (o for o in (*parameter.opts, *parameter.secondary_opts) if o.startswith("-")):
                assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", terms), f"{path} {option}"


def test_help_text_becomes_markdown_that_shows_it() -> None:
    assert escape("a *b* <c> 1<=x [d] `e_f*`") == r"a \*b\* &lt;c> 1&lt;=x \[d\] `e_f*`"
    text = "\n".join(describe_commands())
    assert "## r2tuning ground\n" in text
    assert "### r2tuning library add\n" in text
    assert '```\nr2tuning ground holidays/ "people dance"\n```' in text


def test_long_names_break_between_their_parts() -> None:
    assert allow_breaks("a.b_c/d .pth") == "a.<wbr>b_<wbr>c/<wbr>d .pth"
    assert allow_breaks("r2tuning plot -o") == 'r2tuning plot <span class="option">-o</span>'


def test_links_of_files_in_the_root_lead_to_pages() -> None:
    assert move_links("[a](../SECURITY.md#b) [c](ask.md) [d](../LICENSE)").split() == [
        "[a](security.md#b)",
        "[c](ask.md)",
        "[d](LICENSE)",
    ]
    readme = read_root("README.md")
    assert "](install.md)" in readme
    assert "](../CITATION.cff)" in readme
    assert "docs/" not in without_blocks(readme)


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|source|iframe)[^>]+src=\"?([^\s\">]+)", text)
        loaded += re.findall(r"<link(?![^>]*rel=\"?canonical)[^>]+href=\"?([^\s\">]+)", text)
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], page.name


def test_addresses_have_the_form_of_addresses() -> None:
    for document in DOCUMENTS:
        for address in re.findall(r"\]\((\w+:[^)\s]*)\)", without_blocks(document.read_text(encoding="utf-8"))):
            parts = urlsplit(address)
            assert parts.scheme == "https", f"{document.name}: {address}"
            assert re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", parts.netloc), f"{document.name}: {address}"


def paper_rows() -> list[tuple[str, list[str]]]:
    """The first cell of each row of the paper's map, and the code in the others."""
    rows = re.findall(r"^\| ((?:Eq\.|Table|Fig\.) \d+) \|(.*)\|$", PAPER, re.MULTILINE)
    return [(first, re.findall(r"`([^`]+)`", rest)) for first, rest in rows]


def check_target(target: str) -> None:
    """A dotted name can be imported, a file exists, a command has these options."""
    if target.startswith("r2tuning "):
        words = split_command(target)
        assert words is not None
        check_options(words)
    elif target.startswith("python -m "):
        module, *options = target.removeprefix("python -m ").split()
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert all(f'"{option}"' in source for option in options if option.startswith("-")), target
    elif "/" in target:
        assert (ROOT / target).is_file(), target
    else:
        import_name(target)


def test_the_map_of_the_paper_is_complete_and_every_target_exists() -> None:
    rows = paper_rows()
    equations = [f"Eq. {number}" for number in range(1, 16)]
    tables = ["Table 1", "Table 2", "Table 2", "Table 2", *(f"Table {number}" for number in range(3, 7))]
    assert [first for first, _ in rows] == [*equations, *tables, *(f"Fig. {number}" for number in (2, 6, 7, 8, 9))]
    for first, targets in rows:
        assert targets, f"{first} has no target"
        for target in targets:
            check_target(target)
    for target in re.findall(r"`(r2tuning\.[\w.]+|tests/[\w/.]+)`", PAPER):
        check_target(target)


@pytest.mark.parametrize(
    "target",
    ["r2tuning.training.losses.focal", "src/r2tuning/recipes/none.yaml", "r2tuning ablate x --papers y", "r2tuning no"],
)
def test_a_target_that_is_not_there_is_noticed(target: str) -> None:
    with pytest.raises((AssertionError, AttributeError, ModuleNotFoundError)):
        check_target(target)


@pytest.mark.slow
def test_pages_fit_their_window_and_can_be_searched_as_files(site: Path, tmp_path: Path) -> None:
    with start_browser(tmp_path) as browser:
        for width in (WIDE, NARROW):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.command("Emulation.setDeviceMetricsOverride", **size)
            for page in sorted(set(site.rglob("*.html")) - {site / "404.html"}):  # its addresses begin at the root
                browser.open(page.as_uri())
                assert browser.run("return document.documentElement.scrollWidth") <= width, (page.name, width)
                broken = browser.run("return [...document.images].filter((i) => i.complete && !i.naturalWidth).length")
                assert broken == 0, page.name
        browser.write("[data-md-component=search-query]", "non-maximum suppression")
        found = 'return document.querySelector(".md-search-result__meta").textContent'
        browser.wait(f"{found}.includes('matching')")
        assert [address for address in browser.requests() if not address.startswith(("file:", "data:", "about:"))] == []
