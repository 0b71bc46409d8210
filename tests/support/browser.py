"""A small WebDriver client: drives Chromium through chromedriver with the standard library alone."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,900",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key by which WebDriver refers to an element of a page."""

KEYS = {
    "Tab": "\ue004",
    "Enter": "\ue007",
    "Space": " ",
    "Escape": "\ue00c",
    "End": "\ue010",
    "Home": "\ue011",
    "Left": "\ue012",
    "Up": "\ue013",
    "Right": "\ue014",
    "Down": "\ue015",
    "Shift": "\ue008",
}
_DIRECT = build_opener(ProxyHandler({}))


class Browser:
    """One window of a running Chromium.

    Args:
        session: Address of the WebDriver session.
    """

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Opens a page and waits until it is loaded; what was logged before is forgotten."""
        _ask("POST", f"{self._session}/url", {"url": "about:blank"})
        self.read_log("performance")
        self.read_log("browser")
        _ask("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a function body in the page, which may use ``arguments`` and ``await``; returns what it returns."""
        return _ask("POST", f"{self._session}/execute/sync", {"script": _as_promise(script), "args": list(arguments)})

    def click(self, selector: str) -> None:
        """Clicks the middle of the first element that a CSS selector finds, scrolled into view."""
        _ask("POST", f"{self._session}/element/{self._find(selector)}/click", {})

    def hover(self, selector: str) -> None:
        """Moves the mouse onto the middle of an element."""
        origin = {ELEMENT: self._find(selector)}
        move = {"type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0}
        self._act({"type": "pointer", "id": "mouse", "actions": [move]})

    def press(self, *keys: str, shift: bool = False) -> None:
        """Presses and releases keys of `KEYS` or letters, one after the other."""
        actions = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        if shift:
            held = [{"type": kind, "value": KEYS["Shift"]} for kind in ("keyDown", "keyUp")]
            actions = [held[0], *actions, held[1]]
        self._act({"type": "key", "id": "keyboard", "actions": actions})

    def write(self, selector: str, text: str) -> None:
        """Types into a field; into a field for files, the paths of files, one a line."""
        _ask("POST", f"{self._session}/element/{self._find(selector)}/value", {"text": text})

    def drag(self, selector: str, right: int) -> None:
        """Drags the middle of an element some pixels to the right, in steps as a hand does."""
        origin = {ELEMENT: self._find(selector)}
        moves: list[dict[str, Any]] = [{"type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0}]
        moves.append({"type": "pointerDown", "button": 0})
        part = [right // 3, right // 3, right - 2 * (right // 3)]
        moves += [{"type": "pointerMove", "duration": 50, "origin": "pointer", "x": x, "y": 0} for x in part]
        self._act({"type": "pointer", "id": "mouse", "actions": [*moves, {"type": "pointerUp", "button": 0}]})

    def wait(self, script: str, *arguments: Any) -> Any:
        """Runs a function body until what it returns is true, and returns that; fails after a minute."""
        end = time.monotonic() + 60
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < end, f"it did not become true: {script}"
            time.sleep(0.05)
        return found

    @contextmanager
    def tab(self) -> Iterator[None]:
        """Another tab, which is used in the block and closed after it."""
        before = _ask("GET", f"{self._session}/window")
        made = _ask("POST", f"{self._session}/window/new", {"type": "tab"})["handle"]
        try:
            self.switch(made)
            yield
        finally:
            self.switch(made)
            _ask("DELETE", f"{self._session}/window")
            self.switch(before)

    def tabs(self) -> list[str]:
        """All tabs, oldest first."""
        found: list[str] = _ask("GET", f"{self._session}/window/handles")
        return found

    def switch(self, tab: str) -> None:
        """Uses another tab from now on."""
        _ask("POST", f"{self._session}/window", {"handle": tab})

    def command(self, name: str, **parameters: Any) -> Any:
        """Sends a command of the DevTools protocol."""
        return _ask("POST", f"{self._session}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def read_log(self, kind: str) -> list[dict[str, Any]]:
        """New entries of the log ``browser`` (the console) or ``performance`` (events of the DevTools protocol)."""
        return _ask("POST", f"{self._session}/se/log", {"type": kind})

    def requests(self) -> list[str]:
        """Addresses that pages asked for since the last call, whether or not they were let."""
        messages = [json.loads(entry["message"])["message"] for entry in self.read_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def _find(self, selector: str) -> str:
        return _ask("POST", f"{self._session}/element", {"using": "css selector", "value": selector})[ELEMENT]

    def _act(self, source: dict[str, Any]) -> None:
        _ask("POST", f"{self._session}/actions", {"actions": [source]})


@contextmanager
def start_browser(profile: Path) -> Iterator[Browser]:
    """Starts Chromium with an empty profile; skips the test where there is none.

    Args:
        profile: Folder for all that Chromium writes.
    """
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if driver is None or program is None:
        pytest.skip("no chromium and chromedriver here: install them to test pages in a browser")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([driver, f"--port={port}", "--allowed-ips=127.0.0.1"], **quiet)
    server = f"http://127.0.0.1:{port}"
    try:
        _await_driver(server)
        options = {"binary": program, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"}}
        answer = _ask("POST", f"{server}/session", {"capabilities": {"alwaysMatch": wanted}})
        session = f"{server}/session/{answer['sessionId']}"
        try:
            yield Browser(session)
        finally:
            _ask("DELETE", session)
    finally:
        process.terminate()
        process.wait()


def _await_driver(server: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if _ask("GET", f"{server}/status")["ready"]:
                return
        except URLError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with _DIRECT.open(request, timeout=120) as reply:
            return json.load(reply)["value"]
    except HTTPError as error:
        with error:
            raise AssertionError(f"{method} {url}: {json.load(error)['value']['message']}") from None


def _as_promise(script: str) -> str:
    return f"return (async function () {{ {script} }}).apply(null, arguments)"
