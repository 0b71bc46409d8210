"""Who may ask, and what a browser may do: every address is tried."""

import re
import socket
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from support.server import API, Client, Server, running

from r2tuning.server.security import make_session

ID = "0123456789abcdef"


def operations(client: Client) -> Iterator[tuple[str, str]]:
    """Method and address of everything the server does."""
    document = client.get("/openapi.json").check(200)
    for path, item in document["paths"].items():
        for method in item:
            yield method.upper(), re.sub(r"\{\w+\}", ID, path.replace("{number}", "0"))


def test_every_address_needs_the_token(client: Client) -> None:
    asked = [*operations(client), ("GET", f"{API}/openapi.json")]
    assert len(asked) >= 25
    public = {path for _, path in asked if not path.startswith(API)}
    assert public == {"/health", "/ready"}
    for method, path in asked:
        if path in public:
            assert client.send(method, path, Authorization=None).status == 200
            continue
        for wrong in (
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer a-secret-toke",
            "Bearer a-secret-token2",
            "Basic YTpi",
            "a-secret-token",
            "Bearer \u00e4\u00f6".encode().decode("latin-1"),
        ):
            reply = client.send(method, path, b"{}", Authorization=wrong, Content_Type="application/json")
            reply.refused(401, "no valid token")
        name = f"r2tuning_session_{client.port}"
        for cookie in (f"{name}=a-secret-token", f"{name}=", "a=b", ";;;=", f"{name}={make_session('other')}"):
            reply = client.send(method, path, b"{}", Authorization=None, Cookie=cookie, Content_Type="application/json")
            reply.refused(401, "no valid token")
        reply = client.send(method, path, b"{}", Content_Type="application/json")
        assert reply.status not in (401, 403, 500), (method, path)


def test_a_session_stands_for_the_token(client: Client) -> None:
    reply = client.post("/session")
    assert (reply.status, reply.content) == (204, b"")
    cookie = reply.headers["set-cookie"]
    assert "a-secret-token" not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    pair = cookie.partition(";")[0]
    assert client.get("/library", Authorization=None, Cookie=pair).status == 200
    assert client.post("/rescans", Authorization=None, Cookie=pair).status == 404


def test_servers_on_one_host_keep_their_sessions(client: Client, tmp_path: Path) -> None:
    """Browsers keep the cookies of a host together, whatever the port, and the last of a name counts."""
    kept: SimpleCookie = SimpleCookie()
    with running(tmp_path / "library", "--token", "another-token") as other:
        for each in (client, other.client):
            kept.load(each.post("/session").headers["set-cookie"])
        sent = "; ".join(f"{name}={morsel.value}" for name, morsel in kept.items())
        for each in (client, other.client):
            assert each.get("/library", Authorization=None, Cookie=sent).status == 200
            assert each.get("/library", Authorization=None).status == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.", "localhost@evil:80"])
def test_only_own_names_are_answered(client: Client, host: str) -> None:
    """Otherwise a page could give its own name this address, and then read the answers."""
    client.get("/library", Host=host).refused(421, "is not served here")
    client.send("GET", "/health", Host=host).refused(421)


def test_own_names_are_answered(client: Client) -> None:
    for host in ("localhost", f"127.0.0.1:{client.port}", "LOCALHOST:1", "[::1]:80"):
        assert client.get("/library", Host=host).status == 200


def test_pages_of_other_sites_may_not_ask(client: Client) -> None:
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{client.port + 1}", "http://localhost"):
        client.post("/rescan", Origin=origin).refused(403, "may not ask")
        client.get("/library", Origin=origin).refused(403)
    for site in ("cross-site", "same-site"):
        client.get("/library", Sec_Fetch_Site=site).refused(403, "page of another site")
    own = f"http://127.0.0.1:{client.port}"
    reply = client.get("/library", Origin=own, Sec_Fetch_Site="same-origin")
    assert reply.status == 200
    assert not any(name.startswith("access-control") for name in reply.headers)
    reply = client.send("OPTIONS", f"{API}/library", Origin=own, Access_Control_Request_Method="GET")
    assert reply.status == 405


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
def test_forms_cannot_change_anything(client: Client, kind: str) -> None:
    """What a form of another site can send without asking first."""
    for path in ("/rescan", "/search", f"/jobs/{ID}/cancel", f"/jobs/{ID}/retry", "/session", "/uploads?name=a.mp4"):
        client.post(path, {"queries": ["a"]}, Content_Type=kind).refused(415, "send application/json")
    assert client.post(f"/jobs/{ID}/cancel", Content_Type=kind, X_R2Tuning="1").status == 404


def test_answers_say_what_a_browser_may_do(client: Client) -> None:
    for reply in (
        client.get("/library"),
        client.get("/nothing"),
        client.get("/library", Authorization=None),
        client.get("/library", Host="evil.example"),
        client.send("GET", "/health"),
        client.send("GET", "/"),
    ):
        policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in reply.headers


def test_methods_are_those_of_the_address(client: Client) -> None:
    for method, path in (("PUT", "/library"), ("POST", "/library"), ("DELETE", "/jobs"), ("PATCH", "/videos")):
        reply = client.send(method, API + path, b"{}", Content_Type="application/json")
        reply.refused(405, "this address takes")
        assert reply.headers["allow"]


def test_bodies_have_a_limit_while_they_come(client: Client) -> None:
    client.send("POST", f"{API}/rescan", Content_Type="application/json", Content_Length="99999999999").refused(413)
    pieces: Iterator[bytes] = (b" " * 10**5 for _ in range(15))
    client.send("POST", f"{API}/videos", pieces, Content_Type="application/json").refused(413, "1,048,576 bytes")


def test_who_asks_too_often_is_told_to_wait(server: Server) -> None:
    """Another address of this machine, so that the other tests are not disturbed."""
    statuses: list[int] = []
    with socket.socket() as connection:
        connection.bind(("127.0.0.9", 0))
        connection.connect(("127.0.0.1", server.client.port))
        file = connection.makefile("rb")
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _ in range(60):
            connection.sendall(request * 20)
            for _ in range(20):
                statuses.append(int(file.readline().split()[1]))
                headers: dict[str, Any] = {}
                while line := file.readline().strip():
                    name, _, value = line.decode().partition(": ")
                    headers[name.lower()] = value
                file.read(int(headers["content-length"]))
                if statuses[-1] == 429:
                    assert int(headers["retry-after"]) >= 1
    assert statuses[:300] == [200] * 300
    assert 429 in statuses
    assert server.client.send("GET", "/health").status == 200


def test_a_websocket_is_refused(client: Client) -> None:
    reply = client.send(
        "GET",
        f"{API}/library",
        Upgrade="websocket",
        Connection="Upgrade",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        Sec_WebSocket_Version="13",
    )
    assert reply.status in (200, 400, 403, 426)
