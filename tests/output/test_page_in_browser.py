"""The page in a browser: it plays, seeks, shows what it says, and asks for nothing."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from support.browser import Browser, start_browser
from support.groundings import make_grounding
from support.player import await_seek, shown_frame
from support.videos import write_video

from r2tuning.output.page import write_page
from r2tuning.output.registry import write_format
from r2tuning.output.text import format_clock

FPS = 10
MOMENTS = ((2.05, 6.0, 0.875), (8.55, 10.25, 0.5), (4.05, 9.0, 0.25))
HOSTILE = (
    "</script><script>window.hacked = 1</script><!-- <img src=x onerror='window.hacked = 1'> \"'🎬\u2028\u202e"
    '<svg onload="window.hacked = 1"> javascript:window.hacked=1 {{1}} ${1}'
)
Open = Callable[..., Browser]

PLAYHEAD = 'return parseFloat(document.querySelector(".playhead").getAttribute("x1"))'
FITS = "return document.documentElement.scrollWidth <= innerWidth"
HINT = 'return [...document.querySelectorAll(".hint")].filter((h) => !h.hidden).map((h) => h.textContent).join()'


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with start_browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / 'it\'s "50%" #1? é.mp4', frames=12 * FPS, fps=FPS)


@pytest.fixture
def show(browser: Browser, video: Path, tmp_path: Path) -> Open:
    """Writes a page about the video, and opens it as a file; changes are those of `make_grounding`."""

    def show(*changes: dict[str, Any], embed: bool = False) -> Browser:
        common = {"video": str(video), "duration": 12.0, "moments": MOMENTS}
        results = [make_grounding(**(common | change)) for change in changes or ({},)]
        write_page(results, tmp_path / "a page #1.html", embed=embed, force=True)
        browser.open((tmp_path / "a page #1.html").as_uri())
        return browser

    return show


def style(browser: Browser, selector: str, name: str) -> str:
    return browser.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)


def is_at(browser: Browser, seconds: float, within: float = 0.001) -> None:
    assert await_seek(browser, seconds, within) == pytest.approx(seconds, abs=within)
    assert browser.run(PLAYHEAD) == pytest.approx(100 * seconds / 12, abs=10 * within)


def test_it_opens_at_the_best_moment_and_clicks_seek(show: Open) -> None:
    browser = show({}, {"query": "a cat"})
    is_at(browser, 2.05)
    browser.click(".moments li:nth-child(2) button")
    is_at(browser, 8.55)
    assert "now" in browser.run('return document.querySelector(".moments li:nth-child(3) button").className')
    browser.click(".answer:nth-child(2) .bar:nth-of-type(1)")
    is_at(browser, 2.05)
    browser.click(".ground")  # the middle of a timeline
    is_at(browser, 6.0, within=0.1)  # a pixel is 0.02 s


def test_a_click_shows_the_video_that_the_moment_is_of(show: Open, video: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.mp4", frames=6 * FPS, fps=FPS)
    browser = show({}, {"video": str(other), "duration": 6.0, "moments": ((3.05, 4.0, 0.5),)})
    is_at(browser, 2.05)
    shown = 'return document.querySelector("video").duration'
    assert browser.run(shown) == pytest.approx(12, abs=0.1)
    browser.click(".answer:nth-child(3) .moments button")
    assert await_seek(browser, 3.05) == pytest.approx(3.05, abs=0.001)
    assert browser.run(shown) == pytest.approx(6, abs=0.1)
    assert browser.run('return document.getElementById("playing").textContent') == "other.mp4"
    heads = 'return [...document.querySelectorAll(".playhead")].map((e) => parseFloat(e.getAttribute("x1")))'
    assert browser.run(heads) == pytest.approx([0, 100 * 3.05 / 6], abs=0.1)
    browser.click(".answer:nth-child(2) .moments li:nth-child(2) button")
    is_at(browser, 8.55)
    assert browser.run(shown) == pytest.approx(12, abs=0.1)


def test_numbers_beside_a_curve_do_not_overlap(show: Open) -> None:
    numbers = """return [...document.querySelectorAll(".chart > text[text-anchor=end]")].map((e) => e.textContent)"""
    for scores, expected in (
        ([-0.125, -0.5, -0.25], ["0", "-0.50"]),
        ([0.5, 0.25], ["0.50", "0"]),
        ([0.5, -0.5], ["0.50", "0", "-0.50"]),
        ([0.01, -0.5], ["0", "-0.50"]),
    ):
        assert show({"scores": scores, "moments": ()}).run(numbers) == expected


def test_the_keyboard_seeks(show: Open) -> None:
    browser = show()
    browser.run('document.querySelector("a").focus()')
    browser.press("Tab", "Tab", "Tab")
    active = "return document.activeElement.getAttribute('aria-label')"
    assert browser.run(active) == "Moment 1: 0:02.0 to 0:06.0, score 0.875"
    browser.press("Right")  # in time order, the third begins next
    assert browser.run(active).startswith("Moment 3: 0:04.0")
    assert browser.run(HINT) == "0:04.0 to 0:09.0, score 0.250"
    assert style(browser, ".bar:focus rect", "strokeWidth") == "3px"
    browser.press("Enter")
    is_at(browser, 4.05)
    browser.press("End", "Space")
    is_at(browser, 8.55)
    browser.press("Escape")
    assert browser.run(HINT) == ""
    browser.press("Tab", "Down", "Enter")  # on from the timeline to the list
    assert browser.run(active).startswith("Go to moment 2")
    assert style(browser, "button:focus", "outlineStyle") == "solid"
    browser.press("Home", "Space")
    is_at(browser, 2.05)


def test_hovering_tells_time_and_score(show: Open) -> None:
    browser = show()
    browser.hover(".bar.best")
    assert browser.run(HINT) == "0:02.0 to 0:06.0, score 0.875"
    assert "lit" in browser.run('return document.querySelector(".moments button").className')
    browser.hover(".ground")
    assert browser.run(HINT) == "0:06.0, saliency 0.25"
    browser.hover(".moments li:nth-child(2) button")
    assert browser.run(HINT) == ""
    assert browser.run('return document.querySelector(".bar.lit").getAttribute("aria-label")').startswith("Moment 2")


def test_the_playhead_moves_along(show: Open) -> None:
    browser = show()
    before = browser.run(PLAYHEAD)
    browser.run(
        """const video = document.querySelector("video");
        video.muted = true;
        await video.play();
        while (video.currentTime < 2.5) await new Promise(requestAnimationFrame);
        video.pause();"""
    )
    assert browser.run(PLAYHEAD) >= before + 100 * 0.4 / 12


def test_it_asks_for_the_video_and_nothing_else(show: Open, video: Path) -> None:
    browser = show({"query": HOSTILE})
    browser.click(".moments button")
    is_at(browser, 2.05)
    page, *others = browser.requests()
    assert page.endswith("a%20page%20%231.html")
    kinds = {urlsplit(address).scheme for address in others}
    assert kinds <= {"file", "data"}
    assert {unquote_to_bytes(urlsplit(a).path) for a in others if a.startswith("file:")} == {str(video).encode()}
    assert browser.read_log("browser") == []


def test_the_policy_holds(show: Open) -> None:
    browser = show()
    tried = browser.run(
        """const blocked = [];
        document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
        await fetch("http://127.0.0.1:9/").catch(() => 0);
        const image = new Image();
        await new Promise((done) => { image.onerror = done; image.src = "http://127.0.0.1:9/a.png"; });
        for (const write of [
            () => (document.body.innerHTML += "<script>window.hacked = 1<" + "/script>"),
            () => (document.head.append(Object.assign(document.createElement("script"), { text: "hacked = 1" }))),
        ]) try { write() } catch (error) { blocked.push(error.name) }
        await new Promise((done) => setTimeout(done, 50));
        return [blocked, typeof window.hacked];"""
    )
    blocked, hacked = tried
    assert {"connect-src", "img-src"} <= set(blocked)
    assert blocked.count("TypeError") == 2
    assert hacked == "undefined"


def test_any_query_is_text(show: Open) -> None:
    queries = [HOSTILE, "\ud83d", "x" * 5000, "切蔬菜 مرحبا", "  two\n lines "]
    browser = show(*({"query": query} for query in queries))
    shown = 'return [...document.querySelectorAll("h2")].map((h) => [...h.textContent].map((c) => c.codePointAt(0)))'
    assert browser.run(shown) == [[*map(ord, query)] for query in queries]
    found = browser.run('return [typeof window.hacked, document.querySelectorAll("script, img").length]')
    assert found == ["undefined", 2]
    assert browser.run(FITS)


def test_both_colour_schemes_can_be_read(show: Open) -> None:
    browser = show({"sampling": "keyframe"})
    for scheme in ("light", "dark"):
        check_contrast(browser, scheme)


def check_contrast(browser: Browser, scheme: str) -> None:
    browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.hover(".bar")

    def colour(selector: str, name: str) -> tuple[float, float, float]:
        red, green, blue = (float(x) for x in style(browser, selector, name)[4:-1].split(","))
        return red, green, blue

    page, card = colour("body", "backgroundColor"), colour(".answer", "backgroundColor")
    assert (contrast(page, (0, 0, 0)) < 3) == (scheme == "dark")
    for selector, name, ground in [
        ("h1", "color", page),
        ("#facts", "color", page),
        ("a", "color", page),
        ("h2", "color", card),
        (".note", "color", card),
        (".chart text", "fill", card),
        (".rank", "color", page),  # as it is under the mouse
        (".bar.best text", "fill", colour(".bar.best rect", "fill")),
        (".bar:not(.best) text", "fill", colour(".bar:not(.best) rect", "fill")),
        (".hint", "color", colour(".hint", "backgroundColor")),
    ]:
        least = 3.0 if "bar" in selector else 4.5
        assert contrast(colour(selector, name), ground) >= least, (selector, scheme)
    for selector, name in ((".bar.best rect", "fill"), (".bar:not(.best) rect", "fill"), (".line", "stroke")):
        assert contrast(colour(selector, name), card) >= 3, (selector, scheme)


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """WCAG 2's ratio of two sRGB colours."""
    linear = [
        [x / 3294.6 if x <= 10 else ((x / 255 + 0.055) / 1.055) ** 2.4 for x in colour] for colour in (one, other)
    ]
    dark, bright = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (bright + 0.05) / (dark + 0.05)


def test_nothing_is_cut_off(show: Open) -> None:
    long = "a wide shot of " + "people walking " * 8
    browser = show({"query": long, "moments": [(i / 4, i / 4 + 6, 1 - i / 30) for i in range(25)]})
    buttons = 'return [...document.querySelectorAll("button")].every((b) => b.scrollWidth <= b.clientWidth)'
    try:
        for width in (360, 900, 1600):
            size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": False}
            browser.command("Emulation.setDeviceMetricsOverride", **size)
            assert browser.run(FITS), width
            assert browser.run(buttons), width
            browser.click(".moments li:last-child button")  # far below the player, which stays in view
            assert browser.run('return document.querySelector("video").getBoundingClientRect().top') >= 0, width
    finally:
        browser.command("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".webm", "libvpx-vp9")])
def test_moments_are_on_the_clock_of_the_player(show: Open, tmp_path: Path, suffix: str, codec: str) -> None:
    """In a video that starts late, the frame that is shown after a click is the one at that time."""
    video = write_video(tmp_path / f"late{suffix}", frames=8 * FPS, fps=FPS, start=5, codec=codec)
    moments = [(7.05, 8.0, 0.75), (12.05, 12.9, 0.5)]
    browser = show({"video": str(video), "start": 5.0, "duration": 8.0, "moments": moments}, embed=True)
    for number, (start, _, _) in enumerate(moments, start=1):
        browser.click(f".moments li:nth-child({number}) button")
        assert await_seek(browser, start) == pytest.approx(start, abs=0.001)
        assert shown_frame(browser) == int((start - 5) * FPS)
    ticks = browser.run('return [...document.querySelectorAll(".chart > text")].map((t) => t.textContent)')
    assert [tick for tick in ticks if ":" in tick] == ["0:06", "0:08", "0:10", "0:12"]


def test_a_video_that_does_not_play_leaves_the_timeline(show: Open, tmp_path: Path) -> None:
    hevc = write_video(tmp_path / "a.mp4", frames=2 * FPS, fps=FPS, codec="libx265")
    for video, words in ((hevc, "codec"), (tmp_path / "gone.mp4", "no longer at gone.mp4")):
        (tmp_path / "a page #1.html").unlink(missing_ok=True)
        browser = show({"video": str(video)})
        browser.run('while (!document.querySelector("video").error) await new Promise((done) => setTimeout(done, 20))')
        assert words in browser.run('return document.querySelector("#trouble:not([hidden])").textContent')
        browser.click(".moments li:nth-child(2) button")
        assert browser.run(PLAYHEAD) == pytest.approx(100 * 8.55 / 12, abs=0.01)


def test_the_answers_can_be_downloaded(show: Open, video: Path, tmp_path: Path) -> None:
    browser = show()
    browser.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    expected = [make_grounding(video=str(video), duration=12.0, moments=MOMENTS)]
    for number, form in enumerate(("json", "csv", "srt"), start=1):
        browser.click(f"#downloads a:nth-of-type({number})")
        deadline = time.monotonic() + 60
        # Chromium reserves the name with an empty file.
        while not any(p.stat().st_size for p in tmp_path.glob(f"a page*.{form}")) and time.monotonic() < deadline:
            time.sleep(0.05)
        (file,) = tmp_path.glob(f"a page*.{form}")
        assert file.read_bytes().decode() == write_format(expected, form)


def test_times_are_those_of_the_table(show: Open) -> None:
    times = [0.04, 0.05, 0.15, 59.949, 59.95, 60.25, 83.25, 3599.95, 7384.55, 36000.0]
    browser = show({"duration": 40000.0, "moments": [(t, t + 1, 0.5) for t in times]})
    shown = browser.run(
        'return [...document.querySelectorAll(".moments button span:nth-child(2)")].map((s) => s.textContent)'
    )
    assert shown == [f"{format_clock(t)} to {format_clock(round(t + 1, 3))}" for t in times]


def test_an_answer_without_moments_shows_peaks(show: Open) -> None:
    browser = show({"moments": ()}, {"moments": (), "scores": (0.0,) * 5}, {"moments": (), "scores": ()})
    rows = 'return [...document.querySelectorAll(".answer")].map((a) => a.querySelectorAll("button").length)'
    assert browser.run(rows) == [1, 0, 0]
    assert browser.read_log("browser") == []
    browser.click(".moments button")
    is_at(browser, 2.4)
