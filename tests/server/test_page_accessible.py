"""The page is accessible, as far as axe-core can tell, in light and dark and on a narrow screen."""

from collections.abc import Iterator
from importlib.resources import files

import pytest
from support.browser import Browser
from support.page import go, search

pytestmark = pytest.mark.slow

AXE = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
ABSENT = "a man cooks rice"


def find_faults(page: Browser) -> list[str]:
    """What axe-core finds that hinders users, with the elements."""
    page.run(AXE)
    found = page.run("return (await axe.run()).violations")
    return [
        f"{each['id']}: {[node['html'][:200] for node in each['nodes']]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.fixture(params=[("light", 1300), ("dark", 390)], ids=["light", "dark"])
def look(request: pytest.FixtureRequest, browser: Browser) -> Iterator[str]:
    scheme, width = request.param
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.command("Emulation.setDeviceMetricsOverride", **size)
    browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    yield scheme
    browser.command("Emulation.setEmulatedMedia", features=[])
    browser.command("Emulation.clearDeviceMetricsOverride")


def test_it_has_no_serious_faults(look: str, page: Browser, query: str) -> None:
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(244, 245, 247)", "dark": "rgb(20, 23, 27)"}[look]
    assert find_faults(page) == []
    search(page, query, ABSENT)
    page.click(".pick")
    assert find_faults(page) == []
    page.click(".open")
    page.wait('return document.querySelector(".edge")')
    assert find_faults(page) == []
    go(page, "videos")
    page.wait('return document.querySelector("#files-list li")')
    assert find_faults(page) == []
    page.press("?")
    assert find_faults(page) == []


def test_a_fault_is_noticed(page: Browser) -> None:
    page.run('document.querySelector("#queries input").removeAttribute("aria-label")')
    page.run('document.querySelector("#queries input").removeAttribute("placeholder")')
    assert [fault.partition(":")[0] for fault in find_faults(page)] == ["label"]
