"""What the documents say is so: commands parse, links lead somewhere, tables are those of the code."""

import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from transformers import CLIPConfig, SiglipConfig

from r2tuning.backbones.registry import KNOWN_BACKBONES
from r2tuning.checkpoints.published import PUBLISHED
from r2tuning.cli.main import app
from r2tuning.datasets import find_benchmark
from r2tuning.training.recipes import Recipe, list_recipes, load_recipe

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TRAINING = ROOT / "docs" / "training.md"
RECIPES = ROOT / "docs" / "recipes.md"
SHELL = ("", "sh", "bash", "shell", "console")
"""Languages of code blocks that hold commands."""

COMMANDS = typer.main.get_command(app)


def read_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of every code block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def split_command(line: str) -> list[str] | None:
    """Arguments after ``r2tuning``, up to a pipe, a redirection or another command; None for other commands."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    while words and re.fullmatch(r"\w+=.*", words[0]):  # variables of the environment
        words.pop(0)
    if words[:1] != ["r2tuning"]:
        return None
    end = next((place for place, word in enumerate(words) if re.fullmatch(r"[|&;<>]+", word)), len(words))
    return words[1:end]


def commands_in_blocks(text: str) -> Iterator[list[str]]:
    for language, content in read_blocks(text):
        if language in SHELL:
            for line in content.replace("\\\n", " ").splitlines():
                if re.search(r"(^|\s)r2tuning\s", line) and (words := split_command(line)) is not None:
                    yield words


def commands_in_sentences(text: str) -> Iterator[list[str]]:
    for span in re.findall(r"`(r2tuning [^`]+)`", without_blocks(text)):
        words = split_command(" ".join(span.split()))
        assert words is not None
        yield words


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words call, in a group too, and the words after its name."""
    command, rest = COMMANDS, list(words)
    while hasattr(command, "list_commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = command.get_command(None, name)
        assert found is not None, f"no command {name}"
        command = found
    return command, rest


def parse(words: list[str]) -> None:
    """Parses a whole command as a user's, without running it."""
    command, rest = find_command(words)
    command.make_context(words[0], rest)


def check_options(words: list[str]) -> None:
    """Checks the command and the names of its options; for shortened commands and those with placeholders."""
    command, _ = find_command(words)
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert used <= known, f"{sorted(used - known)} are no options of {' '.join(words)}"


def cases(kind: str) -> list[object]:
    """Every command of the documents once, named by the first of them that has it."""
    read = commands_in_blocks if kind == "blocks" else commands_in_sentences
    found: dict[tuple[str, ...], str] = {}
    for document in DOCUMENTS:
        for words in read(document.read_text(encoding="utf-8")):
            found.setdefault(tuple(words), f"{document.name}: {' '.join(words)}")
    return [pytest.param(list(words), id=name.encode("ascii", "replace").decode()) for words, name in found.items()]


@pytest.mark.parametrize("words", cases("blocks"))
def test_commands_of_code_blocks_parse(words: list[str]) -> None:
    if words[0].startswith("-") or any("…" in word for word in words):
        check_options(words)
    else:
        parse(words)


@pytest.mark.parametrize("words", cases("sentences"))
def test_commands_in_sentences_have_such_options(words: list[str]) -> None:
    check_options(words)


def test_a_wrong_command_is_noticed() -> None:
    text = "```\nr2tuning train charades-sta --run a \\\n  --epochs 3 | tee log\n```\nSay `r2tuning  grund`.\n"
    (block,) = commands_in_blocks(text)
    assert block == ["train", "charades-sta", "--run", "a", "--epochs", "3"]
    with pytest.raises(Exception, match="--epochs"):
        parse(block)
    with pytest.raises(AssertionError, match="--epochs"):
        check_options(block)
    (sentence,) = commands_in_sentences(text)
    with pytest.raises(AssertionError, match="no command grund"):
        check_options(sentence)
    parse(["train", "charades-sta", "--set", "training.epochs=3"])


def heading_anchor(heading: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links(document: Path) -> Iterator[str]:
    text = without_blocks(document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        if not file.exists():
            yield f"{target}: no such file"
        elif anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", without_blocks(file.read_text(encoding="utf-8")), re.MULTILINE)
            if anchor not in map(heading_anchor, headings):
                yield f"{target}: no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    assert list(broken_links(document)) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One *thing*\n[a](#one-thing) [b](#two) [c](b.md) [d](https://x.org)\n")
    assert list(broken_links(tmp_path / "a.md")) == ["#two: no such heading", "b.md: no such file"]


def recipe_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key of a recipe that takes a value, with its default as JSON has it; the required one has none."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from recipe_fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, None if field.is_required() else field.default


def test_every_key_of_a_recipe_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (?:`(.*?)`)? ?\| \S", RECIPES.read_text(encoding="utf-8"), re.MULTILINE)
    documented = [(key, default) for key, default in rows if key == "name" or key in dict(recipe_fields(Recipe))]

    def show(key: str, value: object) -> str:
        if key == "name":
            return ""
        return value if isinstance(value, str) else json.dumps(value)

    assert documented == [(key, show(key, value)) for key, value in recipe_fields(Recipe)]
    sections = {key.partition(".")[0] for key, _ in documented}
    assert [key for key, _ in rows if "." in key and key.partition(".")[0] in sections] == [
        key for key, _ in documented if "." in key
    ]


def test_keys_and_values_named_in_sentences_exist() -> None:
    known = dict(recipe_fields(Recipe))
    sections = "|".join(sorted({key.partition(".")[0] for key in known if "." in key}))
    for document in DOCUMENTS:
        for key in re.findall(rf"`((?:{sections})\.\w+)(?:=[^`]*)?`", document.read_text(encoding="utf-8")):
            assert key in known or key == "model.safetensors", f"{document.name}: {key}"


def test_recipes_and_settings_of_commands_are_valid() -> None:
    """A command may name any recipe file of the reader's; but one of ours with ``--set`` must be right as it stands."""
    checked = 0
    for document in DOCUMENTS:
        for words in commands_in_blocks(document.read_text(encoding="utf-8")):
            if words[0] in ("train", "ablate") and words[1] in list_recipes():
                load_recipe(words[1], [value for flag, value in pairwise(words) if flag == "--set"])
                checked += 1
    assert checked >= 5


def test_published_numbers_are_those_of_the_registry() -> None:
    text = TRAINING.read_text(encoding="utf-8")
    for entry in PUBLISHED:
        number = r"(\d+\.\d\d)"
        if entry.family == "saliency":
            (score,) = re.findall(rf"`{entry.name}` \| {number} \|", text)
            assert float(score) == entry.scores["mAP"]
            continue
        ((split, *cells),) = re.findall(rf"`{entry.name}` \| (\w+) \|" + 5 * r" *([\d.]*) *\|", text)
        assert split == find_benchmark(entry.name).evaluation_split
        names = [*(f"MR-full-R1@{t}" for t in ("0.3", "0.5", "0.7")), "MR-full-mAP", "HL-min-VeryGood-mAP"]
        assert {name: float(cell) for name, cell in zip(names, cells, strict=True) if cell} == dict(entry.scores)


def test_the_table_of_backbones_is_that_of_the_registry_and_its_sizes_are_right() -> None:
    text = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines() if "`" in line[:4]]
    rows = [row for row in rows if len(row) == 7]
    assert [(row[0], row[1]) for row in rows] == [(known.name, known.repository) for known in KNOWN_BACKBONES]
    for name, _, video_width, _, _, patches, megabytes in rows:
        side = re.search(r"/(\d+)(?:@(\d+))?$", name)
        if side is not None:  # 224 pixels where the name says nothing else
            assert int(patches) == (int(side[2] or 224) // int(side[1])) ** 2, name
        size = 1800 * 4 * (int(patches) + 1) * int(video_width) * 2
        assert megabytes == f"{size / 1e6:,.0f}", name


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("ViT-B/32", CLIPConfig()),
        ("SigLIP-B/16", SiglipConfig()),
        ("demo", CLIPConfig.from_pretrained(KNOWN_BACKBONES[-1].folder)),
    ],
)
def test_shapes_in_the_table_of_backbones_are_those_of_configurations(name: str, config: CLIPConfig) -> None:
    text = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
    image, words = config.vision_config, config.text_config
    shape = image.hidden_size, words.hidden_size, image.num_hidden_layers, (image.image_size // image.patch_size) ** 2
    assert [int(cell) for cell in row.split("|")[3:7]] == list(shape)
