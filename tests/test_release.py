"""The files that others build, publish, cite and report with are true; and what is built holds what it should."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_house import PROJECT, ROOT

PYTHONS = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
IMAGE = re.compile(r"python:(3\.\d+)\.\d+-slim-\w+")


def read_yaml(name: str) -> dict[Any, Any]:
    content = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def steps_of_dockerfile() -> list[tuple[str, list[str]]]:
    """Instructions and their words."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [(words[0].upper(), words[1:]) for words in map(shlex.split, text.splitlines()) if words]


def test_the_pythons_are_those_of_the_tests() -> None:
    assert PYTHONS == ["3.10", "3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert read_yaml(".github/workflows/ci.yml")["jobs"]["check"]["strategy"]["matrix"]["python"] == PYTHONS


def test_the_image_is_small_pinned_and_not_of_root() -> None:
    steps = steps_of_dockerfile()
    bases = [words[0] for step, words in steps if step == "FROM"]
    assert len(bases) == 2
    for base in bases:
        match = IMAGE.fullmatch(base)
        assert match is not None, f"{base} is not pinned to a version of Python"
        assert match[1] in PYTHONS
    last = steps[max(place for place, (step, _) in enumerate(steps) if step == "FROM") :]
    # The second stage takes the installed files alone, and neither sources nor pip's downloads.
    assert [words for step, words in last if step == "COPY"] == [["--from=build", "/opt/r2tuning", "/opt/r2tuning"]]
    users = [words for step, words in last if step == "USER"]
    assert users
    assert users[-1][0].partition(":")[0] not in ("root", "0")
    place = [step for step, _ in last].index("USER")
    assert all(step not in ("RUN", "COPY") for step, _ in last[place:])
    assert any(f"--uid {users[-1][0].partition(':')[0]}" in " ".join(words) for step, words in last if step == "RUN")
    assert dict(last)["ENTRYPOINT"] == ["[r2tuning]"]
    assert "r2tuning" in PROJECT["scripts"]
    assert not any(step == "ADD" for step, _ in steps)


def test_what_the_image_copies_exists_and_reaches_the_build() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignore[0] == "*"
    allowed = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    copied = [
        name
        for step, words in steps_of_dockerfile()
        if step == "COPY" and "--from" not in words[0]
        for name in words[:-1]
    ]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)
    # All that pyproject.toml needs of the files beside it.
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "src"} <= set(copied)


def test_the_image_installs_the_pinned_versions_without_cuda() -> None:
    for step, words in steps_of_dockerfile():
        if step == "RUN" and "install" in words and "/opt/r2tuning/bin/pip" in words:
            assert words[words.index("-c") + 1] == "constraints.txt"
            assert words[words.index("--extra-index-url") + 1].endswith("/whl/cpu")


def steps_of_release(job: str) -> list[dict[str, Any]]:
    steps = read_yaml(".github/workflows/release.yml")["jobs"][job]["steps"]
    assert isinstance(steps, list)
    return steps


def run_step(name: str, folder: Path, **environment: str) -> int:
    """Runs the step of the job ``build`` whose name begins so, as GitHub does; the exit code."""
    (script,) = [step["run"] for step in steps_of_release("build") if step.get("name", "").startswith(name)]
    command = ["bash", "-e", "-c", script]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, check=False).returncode


def test_only_the_job_that_publishes_may_prove_who_it_is() -> None:
    release = read_yaml(".github/workflows/release.yml")
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML takes "on" for a truth value
    assert release["permissions"] == {"contents": "read"}
    jobs = release["jobs"]
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "build": None,
        "try": None,
        "publish": {"id-token": "write"},
        "announce": {"contents": "write"},
    }
    assert jobs["publish"]["environment"]["name"] == "pypi"
    # Neither of the two that may write runs anything of this repository.
    uses = [step["uses"].partition("@")[0] for step in jobs["publish"]["steps"]]
    assert uses == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert [step.get("uses", "").partition("@")[0] for step in jobs["announce"]["steps"]] == [
        "actions/download-artifact",
        "",
    ]
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")


def test_what_is_published_was_built_once_and_tried() -> None:
    jobs = read_yaml(".github/workflows/release.yml")["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "build": None,
        "try": "build",
        "publish": ["build", "try"],
        "announce": "publish",
    }
    commands = {name: " ".join(step.get("run", "") for step in job["steps"]) for name, job in jobs.items()}
    assert [name for name, command in commands.items() if "python -m build" in command] == ["build"]
    assert "twine check --strict dist/*" in commands["build"]
    assert "R2TUNING_DIST=dist python -m pytest tests/test_release.py -m slow" in commands["try"]
    assert jobs["try"]["strategy"]["matrix"]["python"] == [PYTHONS[0], PYTHONS[-1]]


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_actions_are_named_by_commit(name: str) -> None:
    text = (ROOT / ".github/workflows" / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.fullmatch(r" *- uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    # The token of the checkout is not left for what runs later.
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_the_tag_must_be_the_version(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    version = PROJECT["version"]
    for tag, cited, heading, code in (
        (f"v{version}", version, f"## [{version}] - 2026-01-31", 0),
        (f"v{version}", version, f"## [{version}] - Unreleased", 1),
        (f"v{version}", "9.9.9", f"## [{version}] - 2026-01-31", 1),
        ("v9.9.9", version, f"## [{version}] - 2026-01-31", 1),
        (version, version, f"## [{version}] - 2026-01-31", 1),
    ):
        (tmp_path / "CHANGELOG.md").write_text(f"{heading}\n")
        (tmp_path / "CITATION.cff").write_text(f"version: {cited}\n")
        assert run_step("The tag is the version", tmp_path, GITHUB_REF_NAME=tag) == code, (tag, cited, heading)


def test_the_tag_must_be_on_main(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *words]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "one")
    git("commit", "--quiet", "--allow-empty", "-m", "two")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    git("checkout", "--quiet", "HEAD~1")
    assert run_step("The tag is on main", tmp_path) == 0
    git("commit", "--quiet", "--allow-empty", "-m", "aside")
    assert run_step("The tag is on main", tmp_path) == 1


def test_what_readers_elsewhere_see_has_whole_links(tmp_path: Path) -> None:
    readme = "[Help](docs/a.md#part), [site](https://example.org/x), [here](#start)\n![A b](docs/images/c.png)\n"
    (tmp_path / "README.md").write_text(readme)
    changes = "# Changelog\n\n## [1.2.3] - 2026-01-31\n\n### New\n\n- All ([how](docs/a.md)).\n\n## [1.2.2]\n\n- Old.\n"
    (tmp_path / "CHANGELOG.md").write_text(changes)
    known = {"GITHUB_REF_NAME": "v1.2.3", "GITHUB_REPOSITORY": "ada/r2", "GITHUB_SERVER_URL": "https://github.com"}
    assert run_step("Links", tmp_path, **known) == 0
    page, raw = "https://github.com/ada/r2/blob/v1.2.3", "https://raw.githubusercontent.com/ada/r2/v1.2.3"
    assert (tmp_path / "README.md").read_text() == (
        f"[Help]({page}/docs/a.md#part), [site](https://example.org/x), [here](#start)\n"
        f"![A b]({raw}/docs/images/c.png)\n"
    )
    assert (tmp_path / "notes.md").read_text() == f"\n### New\n\n- All ([how]({page}/docs/a.md)).\n\n"
    assert run_step("Links", tmp_path, **known | {"GITHUB_REF_NAME": "v9.9.9"}) == 1


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert (citation["title"], citation["version"]) == (PROJECT["name"], PROJECT["version"])
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert paper["url"] in (ROOT / "README.md").read_text(encoding="utf-8")
    assert [author["family-names"] for author in paper["authors"]] == [
        "Liu",
        "He",
        "Li",
        "Kim",
        "Wei",
        "Pfister",
        "Chen",
    ]


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_issue_forms_are_such_as_github_takes(name: str) -> None:
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}")
    assert {"name", "description", "body"} <= set(form)
    ids = [part["id"] for part in form["body"]]
    assert len(ids) == len(set(ids))
    for part in form["body"]:
        assert part["type"] in ("textarea", "input", "dropdown")
        assert part["attributes"]["label"]


def list_sources() -> set[str]:
    """All files of the package in the checkout, as the wheel names them."""
    package = ROOT / "src"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    return {file for file in files if "__pycache__" not in file and not fnmatch(file, "*.egg-info/*")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An sdist, and a wheel made from it, of a copy of the files that git has; or what R2TUNING_DIST holds."""
    if given := os.environ.get("R2TUNING_DIST"):
        return {kind: next(Path(given).glob(f"*{kind}")).absolute() for kind in (".whl", ".tar.gz")}
    folder = tmp_path_factory.mktemp("dist")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=False)
    if names.returncode:
        pytest.skip("this is no git checkout, whose files could be built")
    for name in filter(None, names.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            copy = folder / "copy" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy)
    # The build tool of this environment, so that the test needs no network.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "copy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return {kind: next(folder.glob(f"*{kind}")) for kind in (".whl", ".tar.gz")}


@pytest.mark.slow
def test_the_index_would_take_what_is_built(built: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = wheel.namelist()
        facts = f"r2tuning-{PROJECT['version']}.dist-info"
        metadata = wheel.read(f"{facts}/METADATA").decode()
        assert wheel.read(f"{facts}/entry_points.txt").decode().split() == [
            "[console_scripts]",
            "r2tuning",
            "=",
            "r2tuning.cli:run",
        ]
    sources = list_sources()
    assert {name for name in names if not name.startswith(f"{facts}/")} == sources
    assert {"r2tuning/py.typed", "r2tuning/assets/report/page.html", "r2tuning/recipes/tvsum/BK.yaml"} <= sources
    assert {"r2tuning/assets/demo/head/model.safetensors", "r2tuning/assets/demo/clip/model.safetensors"} <= sources
    assert f"{facts}/licenses/LICENSE" in names
    assert f"Requires-Python: {PROJECT['requires-python']}\n" in metadata


@pytest.mark.slow
def test_the_sdist_holds_what_the_wheel_is_made_of(built: dict[str, Path]) -> None:
    root = f"r2tuning-{PROJECT['version']}/"
    with tarfile.open(built[".tar.gz"]) as sdist:
        names = {member.name.removeprefix(root) for member in sdist.getmembers() if member.isfile()}
    assert {f"src/{source}" for source in list_sources()} <= names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.split("/")[0] in ("tests", "shared", "projects", "benchmarks", ".ci")]


@pytest.mark.slow
def test_what_is_installed_from_the_sdist_answers(built: dict[str, Path], tmp_path: Path) -> None:
    """In an empty home and an empty folder, with the dependencies of this environment."""
    target = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(target),
    ]
    done = subprocess.run([*command, str(built[".tar.gz"])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "home").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    environment = kept | {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(target), "HF_HUB_OFFLINE": "1"}

    def ask(*words: str) -> str:
        command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-B", "-m", "r2tuning", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = [sys.executable, "-c", "import r2tuning; print(r2tuning.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).is_relative_to(target)
    assert ask("doctor", "--model", "demo").endswith("demo: a video can be grounded now\n")
    answer = ask("ground", str(ROOT / "examples" / "sample.mp4"), "a red ring climbing", "--model", "demo")
    assert re.search(r"^ +1 +0:5\d\.\d +1:0\d\.\d ", answer, re.MULTILINE), answer
    ask("ground", str(ROOT / "examples" / "sample.mp4"), "a red ring climbing", "--model", "demo", "-o", "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000
