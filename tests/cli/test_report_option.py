"""``r2tuning ground -o FILE.html``: the page beside the table."""

import json
import re
from pathlib import Path

import pytest
from support.cli import run
from support.videos import write_video


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return write_video(folder / "my video.mp4", frames=60, fps=10)


def read_answers(page: Path) -> list[dict[str, object]]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', page.read_text(encoding="utf-8"))
    return json.loads(json.loads(data)["files"][0]["text"])


def test_the_page_holds_the_answers_of_the_json(model: Path, video: Path, tmp_path: Path) -> None:
    page, saved = tmp_path / "page.html", tmp_path / "video.safetensors"
    options = ["--model", model, "-o", page, "-o", tmp_path / "a.json", "--save-features", saved]
    result = run("ground", video, "a dog", "<b>a cat</b>", "-k", 2, *options)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-2] == f"Wrote {page}"
    assert "Query: a dog" in result.stdout
    assert read_answers(page) == json.loads((tmp_path / "a.json").read_text())
    assert f'src="../{video.parent.name}/my%20video.mp4"' in page.read_text(encoding="utf-8")
    # Features know their video, so a page can show it; an old page is kept unless told otherwise.
    again = [saved, "a dog", "--model", model, "-o", page, "--embed"]
    refused = run("ground", *again)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == f"error: {page} exists: choose another name, or replace it with --force\n"
    assert run("ground", *again, "--force").exit_code == 0
    assert 'src="data:video/mp4;base64,' in page.read_text(encoding="utf-8")


def test_what_cannot_be_written_is_refused_before_the_model_is_loaded(video: Path, tmp_path: Path) -> None:
    for options, code, words in [
        (("-o", f"html:{tmp_path / 'page.png'}"), 1, ".html"),
        (("-o", tmp_path / "no" / "page.html"), 1, "no folder"),
        (("--embed",), 2, ".html"),
    ]:
        result = run("ground", video, "a dog", "--model", tmp_path / "no-model", *options)
        assert (result.exit_code, result.stdout) == (code, "")
        assert words in " ".join(result.stderr.split())
        assert "no-model" not in result.stderr
    assert list(tmp_path.iterdir()) == []
