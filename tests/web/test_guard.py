"""Who gets in, from where, and what a browser may do with an answer: the application as ASGI, and behind a real proxy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.routing import Mount, Route

from lightex.core.root import Root
from lightex.qviz.pages import routes
from lightex.web.app import STATIC, make_app
from lightex.web.guard import POLICY
from lightex.web.live import Live
from lightex.web.server import is_local
from tests.web import roots
from tests.web.asgi import Client, ran

TOKEN = "s3cret-tökën;1"
RUN = "260528-202640-aaaa-000"
ALWAYS = ("content-security-policy", "x-content-type-options", "referrer-policy", "cache-control")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("guarded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LX_CACHE", str(folder / "cache"))
        roots.plain(folder / "runs")
        found = Live(Root(folder / "runs"))
        found.open()
        yield found
        found.close()


@pytest.fixture(scope="module")
def client(live: Live) -> Client:
    return Client(make_app(live, TOKEN, "lx-8765"))


def paths() -> list[str]:
    """Each route that there is, with a run and a file in it, and the static files."""
    filled = {"{run}": RUN, "{sweep}": "aaaa", "{path:path}": "artifacts/a.txt"}
    found = []
    for route in routes():
        assert isinstance(route, (Route, Mount))
        path = route.path
        for name, value in filled.items():
            path = path.replace(name, value)
        found.append(path)
    static = [f"/static/{file.name}" for file in STATIC.iterdir() if file.is_file()]
    return [*found, "/api/live", *static, "/nowhere", "/static/../app.py", "//"]


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}, {"cookie": "lx-8765=wrong"}, {"cookie": f"lx-9999={TOKEN.encode().hex()}"}, {"authorization": "Basic " + "eDp5"}])  # fmt: skip
def test_nothing_is_told_without_the_token(client, given):
    for path in paths():
        for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
            answer = client.request(method, path, headers=given)
            assert answer.status_code == 401, (method, path)
            assert "aaaa" not in answer.text
            for name in ALWAYS:
                assert answer.headers[name], (path, name)


def test_a_wrong_token_in_the_address_is_told_to_people_and_to_programs(client):
    page = client.get("/?token=wrong", headers={"accept": "text/html"})
    assert (page.status_code, "That is not it" in page.text, "set-cookie" in page.headers) == (401, True, False)
    assert "That is not it" not in client.get("/", headers={"accept": "text/html"}).text
    assert client.get("/?token=wrong").text.startswith("the token is missing")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/?token={}", "./"),
        ("/?q=hp.lr+%3E+1&token={}&page=2", "./?q=hp.lr+%3E+1&page=2"),
        (f"/run/{RUN}?tab=logs&token={{}}", f"./{RUN}?tab=logs"),
        ("/run/?token={}", "./"),
        ("/javascript:alert(1)?token={}", "./javascript%3Aalert%281%29"),
        ("/%0d%0aset-cookie:%20a=b?token={}", "./%0D%0Aset-cookie%3A%20a%3Db"),
        ("/%C3%A4%20?token={}", "./%C3%A4%20"),
        ("//evil.example/?token={}", "./"),
        ("/\\evil.example?token={}", "./%5Cevil.example"),
    ],
)
def test_the_token_moves_from_the_address_to_a_cookie(client, path, target):
    answer = client.get(path.format("s3cret-t%C3%B6k%C3%ABn%3B1"))
    assert (answer.status_code, answer.headers["location"]) == (303, target)
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(r"lx-8765=[\w%-]+; Path=/; HttpOnly; SameSite=Lax", cookie)
    assert TOKEN not in str(answer.headers)
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/", headers={"cookie": cookie.split(";")[0]}).status_code == 200


def test_a_token_in_the_address_of_what_is_not_a_get_lets_nobody_in(client):
    assert client.request("POST", "/api/notes?token=s3cret-t%C3%B6k%C3%ABn%3B1").status_code == 401


def entered(client: Client) -> dict[str, str]:
    """What a browser sends that has opened the address."""
    cookie = client.get("/?token=s3cret-t%C3%B6k%C3%ABn%3B1").headers["set-cookie"].split(";")[0]
    return {"cookie": cookie}


def test_a_program_gets_in_by_a_header(live):
    client = Client(make_app(live, "plain"))
    for word in ("Bearer plain", "bearer plain", "Bearer  plain "):
        assert client.get("/api/runs", headers={"authorization": word}).json()["total"] == 15


@pytest.mark.parametrize("other", ['odd={"a": [1, 2]}', "x=a b c", "=", "lx-8766=other", "a=\xff", "lx-8765=former"])
def test_what_other_servers_of_this_host_set_does_not_shut_one_out(client, other):
    own = entered(client)["cookie"]
    for cookie in (f"{other}; {own}", f"{own}; {other}"):
        assert client.get("/", headers={"cookie": cookie.encode("latin-1")}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),  # a program: it gets as far as its body
        ({"sec-fetch-site": "same-origin"}, 400),
        ({"sec-fetch-site": "none"}, 400),
        ({"origin": "http://lx"}, 400),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),  # another port of this host
        ({"sec-fetch-site": "odd"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://lx:1"}, 403),
        ({"origin": "http://lx.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
    ],
)
def test_only_our_own_page_changes_something(client, headers, status):
    answer = client.request("POST", "/api/notes", headers={**entered(client), **headers}, content=b"{}")
    assert answer.status_code == status
    assert all(answer.headers[name] for name in ALWAYS)


def test_every_answer_has_its_headers_and_no_script_stands_in_a_page(client):
    own = entered(client)
    assert "'unsafe" not in POLICY
    assert {part.split()[0]: part.split()[1:] for part in POLICY.split("; ")}["script-src"] == ["'self'"]
    for path in paths():
        if path == "/api/live":
            continue
        answer = client.get(path, headers=own)
        assert answer.status_code in (200, 404, 405, 400), path
        for name in (*ALWAYS, "cross-origin-resource-policy", "cross-origin-opener-policy"):
            assert answer.headers.get(name), (path, name)
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
        if "html" in answer.headers.get("content-type", "") and not path.startswith(
            ("/export", "/run/" + RUN + "/figure")
        ):
            assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|style=|javascript:", answer.text), path
            assert answer.headers["content-security-policy"] == POLICY


def test_an_error_of_ours_is_no_page_without_headers(client, monkeypatch):
    async def ask(_question):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(client.app._app.state.live, "ask", ask)
    answer = client.get("/", headers=entered(client))
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert all(answer.headers[name] for name in ALWAYS)


def test_links_and_addresses_are_relative(client):
    own = entered(client)
    for path in (
        "/",
        f"/run/{RUN}",
        f"/run/{RUN}?tab=logs",
        "/sweep/aaaa",
        "/compare?q=sweep+%3D+aaaa",
        "/nowhere/else",
        "/run/x",
    ):
        text = client.get(path, headers=own).text
        assert not re.search(r"""(?:href|src|action)=["']?/""", text), path
        assert not re.search(r"""(?:href|src|action)=["']?\w+:""", text), path


def test_without_a_token_only_names_of_this_machine_are_served(live):
    client = Client(make_app(live, None))
    for host, status in {"localhost": 200, "127.0.0.1:8765": 200, "[::1]:8765": 200, "evil.example": 403, "evil.example:8765": 403, "127.0.0.1.evil.example": 403, "": 403, "[": 403}.items():  # fmt: skip
        assert client.get("/api/names", headers={"host": host}).status_code == status, host


def test_what_is_no_request_is_not_answered(live):
    async def call():
        sent = []
        await make_app(live, TOKEN)({"type": "websocket", "path": "/", "headers": []}, None, sent.append)
        return sent

    assert ran(call()) == []


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("192.168.1.2", False), ("node1", False), ("", False)],
)  # fmt: skip
def test_which_addresses_only_this_machine_reaches(host, local):
    assert is_local(host) is local


# ---------------------------------------------------------------- the command


def test_without_a_token_the_ui_serves_this_machine_only(lx, tmp_path):
    done = lx("--root", tmp_path, "ui", "--host", "0.0.0.0", "--no-token", "--no-browser")
    assert (done.code, "leave out --no-token" in done.err) == (2, True)


def test_a_taken_port_is_named(lx, tmp_path, unused_port):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", unused_port))
        other.listen()
        done = lx("--root", tmp_path, "ui", "--port", unused_port, "--no-browser")
    assert done.code == 2
    assert f"cannot listen on 127.0.0.1:{unused_port}: Address already in use" in done.err
    assert "choose another one with --port" in done.err


def test_an_address_of_all_is_warned_of(serve, tmp_path):
    shown = serve(tmp_path, "--host", "0.0.0.0")
    assert "warning: others reach 0.0.0.0; they need the token, and nothing is encrypted" in shown.err()
    assert (
        httpx.get(shown.address.replace("?token=tok", ""), headers={"authorization": "Bearer tok"}).status_code == 200
    )


# ---------------------------------------------------------------- behind a prefix


def test_all_links_work_behind_a_prefix(serve, strip_prefix, tmp_path):
    roots.plain(tmp_path / "runs")
    inner = serve(tmp_path / "runs")
    address = strip_prefix(urlsplit(inner.address).port, "/user/ada/proxy/8765")
    with httpx.Client(base_url=address, follow_redirects=True) as client:
        first = client.get("/?token=tok")
        assert (first.status_code, str(first.url)) == (200, address + "/")
        for path in ("/", f"/run/{RUN}", "/sweep/aaaa", "/compare?q=sweep+%3D+aaaa", "/nothing/here"):
            page = client.get(path)
            links = re.findall(r"""(?:href|src)=["']([^"'#]+)""", page.text)
            assert links
            for link in set(links):
                joined = page.url.join(link.replace("&amp;", "&"))
                assert str(joined).startswith(address), (path, link)
                assert client.get(joined).status_code == 200, (path, link)


@pytest.mark.browser
def test_a_browser_works_behind_a_prefix(serve, strip_prefix, tmp_path, watched):
    roots.plain(tmp_path / "runs")
    inner = serve(tmp_path / "runs")
    address = strip_prefix(urlsplit(inner.address).port, "/user/ada/proxy/8765")
    page = watched(address)
    page.goto(f"{address}/?token=tok")
    page.wait_for_selector(".card canvas")
    assert page.url == address + "/"
    page.fill("#q", "hp.lr > 0.05")
    page.click("text=Filter")
    page.wait_for_selector("#table[data-total='4']")
    page.click("#table tbody a >> nth=0")
    page.wait_for_url(f"{address}/run/*")
    page.click("text=logs")
    page.wait_for_selector(".log-text >> text=epoch 8")
    page.click("text=Runs")
    page.wait_for_url(f"{address}/")
    assert page.locator("#table tbody tr").count() == 15
