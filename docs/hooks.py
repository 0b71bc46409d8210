"""What the site has beyond Markdown: files of the root as pages, the command line from its code, docstrings' examples.

MkDocs calls the functions ``on_…``, since ``mkdocs.yml`` names this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from griffe import Docstring, Extension
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from r2tuning.cli.main import COMMANDS, app

ROOT = Path(__file__).resolve().parents[1]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Files of the root that are shown on a page of the site."""

NOTEBOOKS = tuple(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("examples/*.ipynb")))
STATIC = ("CITATION.cff", "LICENSE", *NOTEBOOKS)
"""Files outside the folder of documents that pages link to."""

COMMAND_LINE = "<!-- commands -->"
"""Stands for the reference of all commands in a page."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files elsewhere that pages link to."""
    for name in STATIC:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Completes a page: a line that is only a link to a file of the root becomes that file; links to others are moved.

    So the same links work on a code host, where the files are, and on the site.
    """
    text = re.sub(r"^\[[^\]]+\]\(\.\./([\w.]+\.md)\)$", lambda link: read_root(link[1]), markdown, flags=re.MULTILINE)
    text = text.replace(COMMAND_LINE, "\n".join(describe_commands()))
    return move_links(text)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Says where long names in the text may be broken on narrow screens."""
    # Blocks of code have an empty span before it.
    return re.sub(r"(?<!</span>)<code>([^<]*)</code>", lambda code: f"<code>{allow_breaks(code[1])}</code>", output)


def allow_breaks(code: str) -> str:
    """HTML of code that breaks between the parts of names, and not within options.

    Example:
        >>> allow_breaks("r2tuning.decode --top-k")
        'r2tuning.<wbr>decode <span class="option">--top-k</span>'
    """
    words = (
        f'<span class="option">{word}</span>' if word.startswith("-") else re.sub(r"(?<=\w[./_])(?=\w)", "<wbr>", word)
        for word in code.split(" ")
    )
    return " ".join(words)


def read_root(name: str) -> str:
    """A file of the root, with its links as seen from the folder of documents."""
    text = (ROOT / name).read_text(encoding="utf-8")
    # The pages have the titles.
    text = re.sub(r"\A# .*\n+", "", text) if name != "README.md" else text
    text = re.sub(r"\]\((?!\w+:|#|docs/)", "](../", text)
    return text.replace("](docs/", "](")


def move_links(text: str) -> str:
    """Links to files of the root, as links to the pages that show them.

    Example:
        >>> move_links("[a](../SECURITY.md) [b](../LICENSE) [c](ask.md)")
        '[a](security.md) [b](LICENSE) [c](ask.md)'
    """
    for name in (*PAGES, *STATIC):
        text = re.sub(rf"\]\(\.\./{re.escape(name)}(?=[)#])", f"]({PAGES.get(name, name)}", text)
    return text


def describe_commands() -> Iterator[str]:
    """Markdown of every command, from what `r2tuning --help` is made of."""
    program = typer.main.get_command(app)
    for name in COMMANDS:
        yield from _describe(program.get_command(None, name), f"r2tuning {name}", "##")  # type: ignore[attr-defined]


def _describe(command: Any, path: str, level: str) -> Iterator[str]:
    context = command.context_class(command, info_name=path)
    yield f"{level} {path}\n"
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        example = re.match(r"Examples?: *(.*)", " ".join(paragraph.split()))
        yield f"```\n{example[1]}\n```\n" if example else escape(" ".join(paragraph.split())) + "\n"
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            yield from _describe(command.get_command(context, name), f"{path} {name}", f"{level}#")
        return
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{path} {usage}\n```\n"
    for parameter in command.params:
        if not parameter.hidden and (record := parameter.get_help_record(context)):
            term, meaning = record
            yield f"`{term}`\n:   {escape(meaning)}\n"


def escape(text: str) -> str:
    r"""Text as Markdown that shows it; what stands between backticks is code already.

    Example:
        >>> escape("a*b <c> `d*e`")
        'a\\*b &lt;c> `d*e`'
    """
    parts = re.split(r"(`[^`]*`)", text)
    parts = [part if part.startswith("`") else re.sub(r"([\\*_\[\]|])", r"\\\1", part) for part in parts]
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


class SingularExamples(Extension):
    """Reads the section ``Example:`` of docstrings like ``Examples:``, whose content is code."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Griffe calls it for every object."""
        docstring: Docstring | None = getattr(obj, "docstring", None) if not obj.is_alias else None
        if docstring is not None:
            docstring.value = re.sub(r"^Example:$", "Examples:", docstring.value, flags=re.MULTILINE)
