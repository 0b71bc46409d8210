"""How tests move about in the page of ``r2tuning serve``."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from support.browser import Browser

HITS = 'return document.querySelectorAll(".hit").length'
TEXTS = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"


def go(page: Browser, path: str, *queries: str, **more: object) -> None:
    """Opens a link into the page that is open."""
    text = urlencode([*(("q", one) for one in queries), *more.items()], quote_via=quote)
    page.run("location.hash = arguments[0]", f"#/{path}?{text}" if text else f"#/{path}")


def search(page: Browser, *queries: str) -> None:
    go(page, "search", *queries)
    page.wait(f"{HITS} > 0 && document.querySelectorAll('.found').length === arguments[0]", len(queries))
