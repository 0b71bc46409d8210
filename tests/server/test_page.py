"""The page of a filled library in a browser: search, look, correct, take away."""

import csv
import io
import json
import time
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import pytest
from support.browser import Browser
from support.page import HITS, TEXTS, go, search
from support.player import await_seek
from support.server import Client, Server

from r2tuning.output.text import format_clock

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script> \"'&amp; ${1} {{1}} javascript:1"
ABSENT = "a man cooks rice"
WIDTHS = (390, 1300)
FITS = "return document.documentElement.scrollWidth <= innerWidth"
EDGES = "return [...document.querySelectorAll('.edge')].map((e) => Number(e.ariaValueNow))"
ACTIVE = "return document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"


def watch(page: Browser, client: Client, query: str) -> dict[str, Any]:
    """Opens the best hit, and returns the answer of the API about its video."""
    hit = client.post("/search", {"queries": [query]}).check(200)["searches"][0]["hits"][0]
    go(page, f"video/{hit['video']}", query, t=hit["start"])
    page.wait('return document.querySelectorAll(".edge").length === 2')
    answers = client.post(f"/videos/{hit['video']}/ground", {"queries": [query], "top": 10}).check(200)["answers"]
    return answers[0]


def await_file(folder: Path, name: str) -> bytes:
    """What was downloaded."""
    end = time.monotonic() + 60
    while not (folder / name).is_file() or not (folder / name).stat().st_size:  # Chromium reserves the name first
        assert time.monotonic() < end, list(folder.iterdir())
        time.sleep(0.05)
    return (folder / name).read_bytes()


def test_the_token_becomes_a_cookie(page: Browser, server: Server) -> None:
    assert "#token=" in server.address
    assert page.run("return location.href") == server.address.partition("#")[0]
    assert page.run("return document.cookie") == ""  # scripts cannot read it
    assert page.run(TEXTS, "#facts")[0].startswith("2 videos, ")


def test_all_modules_are_loaded_at_once(page: Browser) -> None:
    named = page.run("return [...document.querySelectorAll('link[rel=modulepreload]')].map((e) => e.href)")
    folder = files("r2tuning") / "server" / "page"
    modules = {each.name for each in folder.iterdir() if each.name.endswith(".js")} - {"app.js"}
    assert {address.rpartition("/")[2] for address in named} == {*modules, "timeline.js"}
    assert page.run("return performance.getEntriesByType('resource').filter((e) => e.initiatorType === 'script')"
                    ".map((e) => e.name.split('/').at(-1)).filter((name) => name !== 'app.js')") == []  # fmt: skip


def test_without_a_token_it_says_so(browser: Browser, server: Server) -> None:
    browser.command("Network.clearBrowserCookies")
    browser.open(server.address.partition("#")[0])
    browser.wait('return !document.getElementById("locked").hidden')
    assert "#token=" in browser.run(TEXTS, "#locked")[0]
    assert browser.run('return document.getElementById("results").hidden')


def test_hits_are_those_of_the_api(page: Browser, client: Client, query: str) -> None:
    page.write("#queries input", query)
    page.press("Enter")
    page.wait(f"{HITS} > 0")
    found = client.post("/search", {"queries": [query], "top": 12}).check(200)["searches"][0]
    spans = [f"{format_clock(hit['start'])} to {format_clock(hit['end'])}" for hit in found["hits"]]
    assert page.run(TEXTS, ".when") == spans
    assert page.run(TEXTS, ".open .name") == [hit["name"] for hit in found["hits"]]
    assert found["calibrated"]
    assert page.run(TEXTS, ".score") == [f"{int(100 * hit['score'] + 0.5)} %" for hit in found["hits"]]
    assert page.run("return location.hash") == f"#/search?q={quote_plus(query)}"
    assert page.run("return [...document.querySelectorAll('.found.dim')].length") == (found["present"] is False)
    if found["next"]:
        page.click(".found > p:last-child button")
        page.wait(f"{HITS} > arguments[0]", len(spans))


def test_a_card_moves_under_the_mouse(page: Browser, query: str) -> None:
    search(page, query)
    page.hover(".hit .frame")
    page.wait('return document.querySelector(".hit .moving:not([hidden]) img")?.naturalWidth')
    places = """const seen = new Set();
        while (seen.size < 3) {
            seen.add(document.querySelector(".hit .moving img").style.transform);
            await new Promise((done) => setTimeout(done, 50));
        }
        return true"""
    assert page.run(places)
    page.hover("#home")
    page.wait('return !document.querySelector(".hit .moving:not([hidden])")')


def test_nothing_moves_by_itself_if_the_user_wants_that(page: Browser, query: str) -> None:
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    try:
        search(page, query)
        page.hover(".hit .frame")
        assert page.run('return document.querySelector(".moving")') is None
    finally:
        page.command("Emulation.setEmulatedMedia", features=[])


def test_a_click_on_a_hit_plays_its_moment(page: Browser, client: Client, query: str) -> None:
    search(page, query)
    found = client.post("/search", {"queries": [query], "top": 12}).check(200)["searches"][0]["hits"]
    page.click(".hit:nth-child(2) .open")
    assert await_seek(page, found[1]["start"]) == pytest.approx(found[1]["start"], abs=0.001)
    page.wait('return document.querySelector(".playhead")')
    video = client.get(f"/videos/{found[1]['video']}").check(200)
    expected = 100 * (found[1]["start"] - video["start"]) / video["duration"]
    assert page.run('return parseFloat(document.querySelector(".playhead").getAttribute("x1"))') == pytest.approx(
        expected
    )
    # Another moment on the timeline, and a place beside it.
    answer = client.post(f"/videos/{found[1]['video']}/ground", {"queries": [query], "top": 10}).check(200)["answers"][
        0
    ]
    page.click(".bar")
    await_seek(page, answer["moments"][0]["start"])
    page.click(".ground")
    middle = video["start"] + video["duration"] / 2
    assert await_seek(page, middle, 0.5) == pytest.approx(middle, abs=0.5)  # a pixel is about 0.2 s
    page.run("history.back()")
    page.wait('return !document.getElementById("results").hidden')
    assert page.run('return document.querySelector("video").paused')
    page.wait('return document.activeElement.matches(".hit:nth-child(2) .open")')


def test_several_queries_have_rows_and_colors(page: Browser, client: Client, query: str) -> None:
    search(page, query, ABSENT)
    assert page.run(TEXTS, ".found h2") == [query, ABSENT]
    colors = 'return [...document.querySelectorAll(".found .swatch")].map((e) => getComputedStyle(e).backgroundColor)'
    assert len(set(page.run(colors))) == 2
    absent = client.post("/search", {"queries": [ABSENT]}).check(200)["searches"][0]
    assert absent["present"] is False
    assert page.run(TEXTS, ".found:nth-child(2) .strong") == ["Probably not in your videos."]
    assert page.run('return document.querySelector(".found:nth-child(2)").classList.contains("dim")')
    page.click(".found:nth-child(1) .open")
    page.wait('return document.querySelectorAll(".answer").length === 2')
    page.write("#query-here", "a blue square")
    page.press("Enter")
    page.wait('return document.querySelectorAll(".answer").length === 3')
    assert page.run(TEXTS, ".answer h3") == [query, ABSENT, "a blue square"]
    assert page.run("return new URLSearchParams(location.hash.split('?')[1]).getAll('q')") == [
        query, ABSENT, "a blue square",
    ]  # fmt: skip


def test_a_hit_that_is_no_answer_gets_a_place_among_them(page: Browser, client: Client, query: str) -> None:
    answer = watch(page, client, query)
    go(page, f"video/{answer['video']}", ABSENT, query, t=1.5, end=2.75, of=1)
    page.wait('return document.querySelectorAll(".answer:nth-child(2) .edge").length === 2')
    assert page.run(EDGES) == [1.5, 2.75]
    assert page.run(TEXTS, ".answer:nth-child(2) .bar.chosen text") == [str(len(answer["moments"]) + 1)]
    assert await_seek(page, 1.5) == pytest.approx(1.5, abs=0.001)


def test_more_like_a_moment(page: Browser, client: Client, query: str) -> None:
    answer = watch(page, client, query)
    page.run('[...document.querySelectorAll("#chosen button")].find((b) => b.textContent === "More like this").click()')
    page.wait(f"{HITS} > 0")
    start, end = page.run("return new URLSearchParams(location.hash.split('?')[1]).get('like')").split(",")[1:]
    like = {"video": answer["video"], "start": float(start), "end": float(end)}
    found = client.post("/search", {"like": like, "top": 12}).check(200)["searches"][0]["hits"]
    assert page.run(TEXTS, ".when") == [f"{format_clock(h['start'])} to {format_clock(h['end'])}" for h in found]
    assert page.run(TEXTS, ".found h2")[0].startswith("More like ")


def test_the_keyboard_suffices(page: Browser, client: Client, query: str) -> None:
    page.press("/")
    assert page.run(ACTIVE) == "Query"
    page.write("#queries input", query)
    page.press("Enter")
    page.wait(f"{HITS} > 1")
    page.press("Escape", "j", "j", "k", "Down")
    page.wait('return document.activeElement.matches(".hit:nth-child(2) .open")')
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(outline) == "solid"
    page.press("s")
    assert page.run(TEXTS, "#to-selection") == ["Selection (1)"]
    page.press("Enter")
    page.wait('return document.querySelector(".edge")')
    assert page.run(ACTIVE).startswith("videos/2024/")  # the heading of the video
    page.run('document.getElementById("video").muted = true')
    page.press("Space")
    page.wait('return !document.getElementById("video").paused')
    page.press("Space")
    page.wait('return document.getElementById("video").paused')
    page.press("Escape")
    page.wait('return document.activeElement.matches(".hit:nth-child(2) .open")')
    page.press("?")
    page.wait('return document.getElementById("keys").open')
    page.press("Escape")
    page.wait('return !document.getElementById("keys").open')


def test_a_moment_is_corrected_with_keys_and_exported(
    page: Browser, client: Client, query: str, tmp_path: Path
) -> None:
    answer = watch(page, client, query)
    before = page.run(EDGES)
    assert before in [[moment["start"], moment["end"]] for moment in answer["moments"]]
    # From the chosen bar, Tab leads to its start and its end.
    page.run('document.querySelector(".bar.chosen").focus()')
    page.press("Tab")
    assert page.run(ACTIVE).startswith("Start of moment ")
    page.press("Right", "Right", "Right")
    page.press("Tab")
    assert page.run(ACTIVE).startswith("End of moment ")
    page.press("Left", shift=True)
    page.press("Left")
    expected = [round(before[0] + 0.3, 3), round(before[1] - 1.1, 3)]
    assert page.run(EDGES) == expected
    assert await_seek(page, expected[1]) == pytest.approx(expected[1], abs=0.001)
    assert page.run(TEXTS, "#tray .mark") == ["corrected"]
    page.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    export(page, "custom")
    rows = list(csv.DictReader(io.StringIO(await_file(tmp_path, "moments.csv").decode())))
    expected_row = {"video": answer["name"], "start": f"{expected[0]:.3f}", "end": f"{expected[1]:.3f}", "query": query}
    assert rows == [expected_row]
    # It is still corrected when the page is opened again.
    page.run("location.reload()")
    page.wait("return document.querySelectorAll('.edge').length === 2")
    assert page.run(EDGES) == expected
    page.run('[...document.querySelectorAll("#chosen button")].find((b) => b.textContent === "Restore").click()')
    assert page.run(EDGES) == before


def test_a_moment_is_corrected_with_the_mouse_and_cut_out(
    page: Browser, client: Client, query: str, tmp_path: Path
) -> None:
    answer = watch(page, client, query)
    start, end = page.run(EDGES)
    per_pixel = answer["duration"] / page.run('return document.querySelector(".chart").getBoundingClientRect().width')
    page.drag('.edge[data-name="end"] .grip', 30)
    moved = page.run("return Number(document.querySelectorAll('.edge')[1].ariaValueNow)")
    assert moved == pytest.approx(min(end + 30 * per_pixel, answer["start"] + answer["duration"]), abs=2 * per_pixel)
    page.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    export(page, "json")
    ((exported,),) = [answer["moments"] for answer in read_answers(await_file(tmp_path, "moments.json"))]
    assert (exported["start"], exported["end"]) == (start, moved)
    page.run(
        '[...document.querySelectorAll(".answer button")].find((b) => b.textContent === "New moment here").click()'
    )
    assert page.run(TEXTS, "#to-selection") == ["Selection (2)"]
    export(page, "clips")
    page.wait('return document.querySelector("#jobs .job.done a")')
    names = zipfile.ZipFile(io.BytesIO(await_file(tmp_path, "moments.zip"))).namelist()
    assert len(names) == 2
    assert all(name.endswith(".mp4") for name in names)


def read_answers(content: bytes) -> list[dict[str, Any]]:
    answers = json.loads(content)
    return answers if isinstance(answers, list) else [answers]


def export(page: Browser, form: str) -> None:
    page.run(
        """const format = document.getElementById("format");
        format.value = arguments[0];
        format.dispatchEvent(new Event("change"));""",
        form,
    )
    page.click("#export")


def test_two_tabs_share_the_selection(page: Browser, server: Server, query: str) -> None:
    search(page, query)
    with page.tab():
        page.open(server.address.partition("#")[0])
        search(page, ABSENT)
        page.click(".pick")
        page.wait('return document.getElementById("to-selection").textContent === "Selection (1)"')
    page.wait('return document.getElementById("to-selection").textContent === "Selection (1)"')
    assert page.run(TEXTS, ".found h2") == [query]  # each shows its own search
    page.click(".pick")
    assert page.run(TEXTS, "#to-selection") == ["Selection (2)"]
    page.click("#tray li:nth-child(1) button")
    assert page.run(TEXTS, "#tray li > .quiet:not(.name)") == [query]


def test_links_lead_back_and_forward(page: Browser, query: str) -> None:
    search(page, query)
    search(page, ABSENT, "a blue square")
    fields = "return [...document.querySelectorAll('#queries input')].map((e) => e.value)"
    assert page.run(fields) == [ABSENT, "a blue square"]
    page.run("history.back()")
    page.wait("return document.querySelectorAll('.found').length === 1")
    assert page.run(fields) == [query]
    page.run("history.forward()")
    page.wait("return document.querySelectorAll('.found').length === 2")
    go(page, "search", query, min=10**6)
    page.wait("return document.querySelectorAll('.found').length === 1")
    assert page.run('return document.getElementById("min").value') == str(10**6)
    assert page.run(HITS) == 0
    assert "passes the filters" in page.run(TEXTS, ".found .note")[0]


def test_any_query_is_text(page: Browser, query: str) -> None:
    page.write("#queries input", HOSTILE)
    page.press("Enter")
    page.wait('return document.querySelector(".found")')
    assert page.run(TEXTS, ".found h2") == [" ".join(HOSTILE.split())]
    page.click(".open")
    page.wait('return document.querySelector(".answer .edge")')
    assert page.run(TEXTS, ".answer h3") == [HOSTILE]
    page.run('localStorage.setItem(Object.keys(localStorage)[0] ?? "r2tuning.selection.library", "<img src=x>")')
    page.run("location.reload()")
    page.wait('return document.querySelector(".answer")')
    assert page.run('return [typeof window.hacked, document.querySelectorAll("#main img, #main script").length]') == [
        "undefined", page.run('return document.querySelectorAll(".frame > img").length'),
    ]  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off(page: Browser, client: Client, query: str, width: int) -> None:
    page.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    try:
        search(page, query, "x" * 300)
        assert page.run(FITS)
        page.click(".pick")
        assert page.run(FITS)
        page.click(".open")
        page.wait('return document.querySelector(".answer")')
        assert page.run(FITS)
        go(page, "videos")
        page.wait('return document.querySelector("#files-list li")')
        assert page.run(FITS)
    finally:
        page.command("Emulation.clearDeviceMetricsOverride")


def test_an_error_is_told_and_can_be_tried_again(page: Browser, query: str) -> None:
    go(page, "video/0123456789abcdef", query)
    page.wait('return document.querySelector("#alert .problem")')
    assert "is not in the library" in page.run(TEXTS, "#alert p")[0]
    assert [urlsplit(entry["source"]).path for entry in page.read_log("browser")] == ["network"]
