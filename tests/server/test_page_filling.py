"""The page of an empty library in a browser: add videos, follow jobs, remove; and videos that browsers do not play."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Browser
from support.page import TEXTS
from support.player import await_seek, shown_frame
from support.server import Client, Server, running
from support.videos import write_video

pytestmark = pytest.mark.slow

FPS = 10
SECONDS = 12
# What Chromium plays itself, what it plays from other packets, and what must be encoded again.
KINDS = {
    "plain.mp4": ("libx264", "native", 0),
    "late.mp4": ("libx264", "native", 5),  # seconds on the player's clock at which it begins
    "open.webm": ("libvpx-vp9", "native", 0),
    "matroska.mkv": ("libx264", "remux", 0),
    "late.mkv": ("libx265", "transcode", 5),
    "hevc.mp4": ("libx265", "transcode", 0),
    "old.avi": ("mpeg4", "transcode", 0),
}
HOSTILE = "<img src=x onerror=window.hacked=1>&amp;<script>.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Below it ``videos`` is a root, with videos of every kind and one that is none."""
    place = tmp_path_factory.mktemp("filling")
    (place / "videos").mkdir()
    for name, (codec, _, start) in KINDS.items():
        b_frames = 2 if name == "matroska.mkv" else 0
        options = {"fps": FPS, "codec": codec, "gop": FPS, "b_frames": b_frames, "start": start}
        write_video(place / "videos" / name, frames=SECONDS * FPS, **options)
    (place / "videos" / "broken.mp4").write_bytes(b"no video at all")
    return place


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(folder / "library", "--model", "demo", "--root", folder / "videos", "--max-upload", "1MB") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return server.client


@pytest.fixture
def page(browser: Browser, server: Server) -> Browser:
    browser.open(server.address)
    browser.wait('return document.getElementById("facts").textContent !== ""')
    return browser


@pytest.fixture(scope="module")
def filled(browser: Browser, server: Server) -> dict[str, str]:
    """Ids by name of the videos, which were added by path on the page of the empty library."""
    browser.open(server.address)
    browser.wait('return document.getElementById("facts").textContent === "No videos yet"')
    assert browser.run('return document.getElementById("adding").hidden') is False  # the first run
    assert "videos" in browser.run(TEXTS, "#roots")[0]
    browser.click("#roots button")  # puts its name into the field
    browser.press("Enter")
    browser.wait('return document.querySelector("#jobs .job progress:not([hidden])")')
    browser.wait('return document.querySelector("#jobs .job.failed")')
    videos = server.client.get("/videos").check(200)["videos"]
    return {one["name"].partition("/")[2]: one["id"] for one in videos}


def test_a_folder_is_added_with_progress_and_errors(page: Browser, filled: dict[str, str], client: Client) -> None:
    assert set(filled) == {*KINDS, "broken.mp4"}
    page.wait('return document.querySelector("#jobs .job.failed details:not([hidden])")')
    assert page.run(TEXTS, "#jobs .job.failed details:not([hidden]) summary") == ["1 file could not be used"]
    (reason,) = page.run(TEXTS, "#jobs .job.failed li")
    assert reason.startswith("videos/broken.mp4 cannot be read as video")
    facts = page.run(TEXTS, "#facts")[0]
    assert facts.startswith("7 videos, 1.4 minutes, model demo, 1 failed")
    page.click("#to-videos")
    page.wait('return document.querySelectorAll("#files-list li").length === 8')
    assert page.run(TEXTS, "#files-list li.failed .wrong") == [reason]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_video_plays_with_seeking(
    page: Browser, client: Client, filled: dict[str, str], name: str
) -> None:
    plan = client.get(f"/videos/{filled[name]}/preview").check(200)
    _, mode, start = KINDS[name]
    assert (plan["mode"], plan["start"]) == (mode, start)
    for time in (7.05, 0.05, 0.15, 2.55, 11.85):
        page.run("location.hash = arguments[0]", f"#/video/{filled[name]}?t={start + time}")
        assert await_seek(page, start + time) == pytest.approx(start + time, abs=0.001)
        assert shown_frame(page) == int(time * FPS)
    told = page.run(TEXTS, "#played:not([hidden])")
    if plan["mode"] == "native":
        assert told == []
    else:
        assert plan["reason"] in told[0]
    page.run(
        'document.getElementById("video").muted = true; location.hash = arguments[0]',
        f"#/video/{filled[name]}?t={start + 1}",
    )
    await_seek(page, start + 1)
    page.run("await document.getElementById('video').play()")
    page.wait("return document.getElementById('video').currentTime > arguments[0]", start + 1.3)


def test_a_chosen_file_is_uploaded_and_found(
    page: Browser, client: Client, filled: dict[str, str], tmp_path: Path
) -> None:
    before = len(client.get("/videos").check(200)["videos"])
    video = write_video(tmp_path / "chosen.mp4", frames=31, fps=FPS)
    page.click("#to-videos")
    page.write("#files", str(video))
    page.wait("return document.querySelectorAll('#files-list li').length === arguments[0]", before + 1)
    assert "Add chosen.mp4" in page.run(TEXTS, "#jobs .job.done .title")
    page.run("document.querySelector('[aria-label=\"Remove chosen.mp4\"]').click()")
    page.wait('return document.getElementById("sure").open')
    page.press("Enter")  # the safe answer has the focus
    page.wait('return !document.getElementById("sure").open')
    page.run("document.querySelector('[aria-label=\"Remove chosen.mp4\"]').click()")
    page.click('#sure button[value="yes"]')
    page.wait("return document.querySelectorAll('#files-list li').length === arguments[0]", before)
    assert len(client.get("/videos").check(200)["videos"]) == before
    page.run("location.reload()")  # other tabs know what jobs are about, too
    page.wait('return document.querySelectorAll("#jobs .job.done").length > 1')
    assert page.run(TEXTS, "#jobs .job.done .title")[:2] == ["Remove chosen.mp4", "Add chosen.mp4"]


DROP = """
    const transfer = new DataTransfer();
    for (const [name, text] of Object.entries(arguments[0])) {
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type: "video/mp4" }));
    }
    for (const kind of ["dragover", "drop"]) {
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent(kind, options));
    }
"""


def drop(page: Browser, **files: bytes) -> None:
    page.run(DROP, {name: base64.b64encode(content).decode() for name, content in files.items()})


def test_dropped_files_are_uploaded_and_errors_are_told_of_each(
    page: Browser, client: Client, filled: dict[str, str], tmp_path: Path
) -> None:
    good = write_video(tmp_path / "good.mp4", frames=32, fps=FPS).read_bytes()
    drop(page, **{HOSTILE: good, "bad.mp4": b"nothing", "big.mp4": bytes(1_000_001), "text.txt": b"text"})
    page.wait('return document.querySelectorAll("#jobs .job.failed > .wrong").length >= 4')
    reasons = dict(
        zip(page.run(TEXTS, "#jobs .job.failed .title"), page.run(TEXTS, "#jobs .job.failed > .wrong"), strict=True)
    )
    assert "cannot be read as video" in reasons["bad.mp4"]
    assert "the server takes 1.0 MB" in reasons["big.mp4"]
    assert "does not end like a video" in reasons["text.txt"]
    page.wait('return [...document.querySelectorAll("#jobs .done .title")].some((e) => e.textContent === arguments[0])',
              f"Add {HOSTILE}")  # fmt: skip
    page.click("#to-videos")
    page.wait("return document.querySelectorAll('#files-list li').length >= 9")
    names = page.run(TEXTS, "#files-list .name")
    (shown,) = [name for name in names if "onerror" in name]
    assert shown in {one["name"] for one in client.get("/videos").check(200)["videos"]}
    assert page.run("return [typeof window.hacked, document.querySelectorAll('#files-list img').length]") == [
        "undefined", 0,
    ]  # fmt: skip
    # Close what failed here.
    page.run('for (const b of document.querySelectorAll("#jobs button")) if (b.textContent === "Close") b.click()')
    page.wait('return !document.querySelector("#jobs .job.failed [aria-label^=Close]")')


def test_a_job_is_cancelled_and_tried_again(
    page: Browser, client: Client, filled: dict[str, str], folder: Path
) -> None:
    for number in range(4):
        write_video(folder / "videos" / f"more-{number}.mp4", frames=(40 + number) * FPS, fps=FPS)
    page.click("#to-videos")
    page.click("#rescan")
    page.wait("return document.querySelector('#jobs .job:not(.done) [aria-label=\"Cancel: Rescan\"]')")
    page.click('#jobs [aria-label="Cancel: Rescan"]')
    page.wait('return document.querySelector("#jobs .job.cancelled")')
    (job, *_) = client.get("/jobs").check(200)["jobs"]
    assert (job["kind"], job["state"]) == ("rescan", "cancelled")
    page.click('#jobs [aria-label="Retry: Rescan"]')
    page.wait('return !document.querySelector("#jobs .job.cancelled")')
    ended = client.wait(job["id"])
    assert (ended["progress"]["failures"][0]["name"], len(ended["progress"]["failures"])) == ("videos/broken.mp4", 1)
    page.wait("return document.querySelectorAll('#files-list li.ready').length >= 11")


def test_without_events_progress_is_asked_for(page: Browser, client: Client, filled: dict[str, str]) -> None:
    page.run("window.EventSource = class extends EventTarget { constructor() { super(); setTimeout(() => "
             "this.dispatchEvent(new Event('error'))); } close() {} }")  # fmt: skip
    page.click("#to-videos")
    page.click("#rescan")
    page.wait('return document.querySelector("#status").textContent.startsWith("Rescan: ")')
