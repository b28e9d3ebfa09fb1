"""What the shop promises on the wire, and when it closes."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import WSMsgType

from .clients import EVENT_SOURCE, OFTEN, Site, file_form
from .media import PLACE

# Connections


async def test_connection_is_kept_for_more_requests(site: Site) -> None:
    """One connection serves request after request, errors and redirects included."""
    wire = await site.wire()
    for target, status in [
        ("GET /", 200),
        ("GET /nowhere", 404),
        ("POST /logout", 303),
        ("GET /catalogue?columns=0", 500),
        ("GET /static/shop.css", 200),
        ("OPTIONS /api/items", 204),
        ("GET /", 200),
    ]:
        await wire.send(f"{target} HTTP/1.1", "Host: shop")
        assert (await wire.read_reply(has_body=status != 204)).status == status


async def test_stream_does_not_end_the_connection(site: Site) -> None:
    """After a chunked download the connection is good for the next request."""
    wire, cookie = await site.wire(), await site.cookie_line("ada")
    await wire.send("GET /sales.csv HTTP/1.1", "Host: shop", cookie)
    assert (await wire.read_reply()).text.endswith(f"\n2,365,730,{PLACE}\n")
    await wire.send("GET /api/items/1 HTTP/1.1", "Host: shop")
    assert (await wire.read_reply()).json()["name"] == "teapot"


async def test_connection_close_is_obeyed(site: Site) -> None:
    """Who asks for it gets the connection closed after the response."""
    wire = await site.wire()
    await wire.send("GET / HTTP/1.1", "Host: shop", "Connection: close")
    assert (await wire.read_reply()).headers["Connection"] == "close"
    assert await wire.at_end()


async def test_http_1_0_gets_one_response(site: Site) -> None:
    """An HTTP/1.0 client gets its response and then the end of the connection."""
    wire = await site.wire()
    await wire.send("GET / HTTP/1.0")
    reply = await wire.read_reply()
    assert reply.status == 200
    assert "Hello, stranger" in reply.text
    assert await wire.at_end()


async def test_http_1_0_gets_a_stream_without_chunks(site: Site) -> None:
    """A download for an HTTP/1.0 client is not chunked; it ends with the connection."""
    wire, cookie = await site.wire(), await site.cookie_line("ada")
    await wire.send("GET /sales.csv?years=1 HTTP/1.0", cookie)
    reply = await wire.read_reply()
    assert "Transfer-Encoding" not in reply.headers
    assert reply.text.endswith(f"\n0,365,0,{PLACE}\n")
    assert await wire.at_end()


async def test_http_1_0_may_keep_the_connection(site: Site) -> None:
    """An HTTP/1.0 client which asks to keep the connection may send another request."""
    wire = await site.wire()
    for _ in range(2):
        await wire.send("GET /api/items/2 HTTP/1.0", "Connection: keep-alive")
        reply = await wire.read_reply()
        assert reply.headers["Connection"] == "keep-alive"
        assert reply.json()["name"] == "cup"


async def test_head_is_get_without_the_body(site: Site) -> None:
    """HEAD has the status and the length of GET, and the next response follows directly."""
    wire = await site.wire()
    for path in ("/", "/catalogue", "/api/items", "/api/items/1", "/nowhere"):
        await wire.send(f"HEAD {path} HTTP/1.1", "Host: shop")
        head = await wire.read_reply(has_body=False)
        await wire.send(f"GET {path} HTTP/1.1", "Host: shop")
        get = await wire.read_reply()
        assert (path, head.status) == (path, get.status)
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_head_of_a_stream(site: Site) -> None:
    """HEAD of a streamed download sends nothing of it either."""
    wire, cookie = await site.wire(), await site.cookie_line("ada")
    await wire.send("HEAD /sales.csv HTTP/1.1", "Host: shop", cookie)
    assert (await wire.read_reply(has_body=False)).status == 200
    await wire.send("GET /api/items/1 HTTP/1.1", "Host: shop")
    assert (await wire.read_reply()).status == 200


async def test_pipelined_requests_are_answered_in_order(site: Site) -> None:
    """Requests sent in one go, bodies and errors among them, get their responses in order."""
    wire = await site.wire()
    await wire.send_raw(
        b"GET /api/items/1 HTTP/1.1\r\nHost: shop\r\n\r\n"
        b"POST /checksum HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\ntea"
        b"GET /nowhere HTTP/1.1\r\nHost: shop\r\n\r\n"
        b"POST /api/items HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nnull"
        b"GET /catalogue?columns=0 HTTP/1.1\r\nHost: shop\r\n\r\n"
        b"GET /api/items/2 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
    )
    replies = [await wire.read_reply() for _ in range(6)]
    assert [reply.status for reply in replies] == [200, 200, 404, 401, 500, 200]
    assert replies[0].json()["name"] == "teapot"
    assert replies[1].json()["size"] == 3
    assert replies[5].json()["name"] == "cup"
    assert await wire.at_end()


async def test_pipelined_request_waits_for_the_slow_one_before(site: Site) -> None:
    """A quick request behind a slow one on the same connection is answered after it."""
    ada, eve = await site.browser("ada"), await site.browser("eve")
    await eve.post("/admin/warehouse", json={"open": False})
    place, cookie = await ada.order_teapot(), await site.cookie_line("ada")
    wire = await site.wire()
    await wire.send(f"GET {place} HTTP/1.1", "Host: shop", cookie)
    await wire.send("GET /api/items/2 HTTP/1.1", "Host: shop")
    await site.shop.activity.wait_for("ada waits for order 1")
    await eve.post("/admin/warehouse", json={"open": True})
    assert (await wire.read_reply()).json()["item"]["name"] == "teapot"
    assert (await wire.read_reply()).json()["name"] == "cup"


async def test_body_nobody_reads_does_not_disturb(site: Site) -> None:
    """A refused request's body is skipped, and the next request is understood."""
    wire = await site.wire()
    for _ in range(OFTEN):
        await wire.send(
            "POST /reviews HTTP/1.1", "Host: shop", "Content-Length: 5000", body=b"x" * 5000
        )
        assert (await wire.read_reply()).status == 401
    await wire.send("GET /api/items/1 HTTP/1.1", "Host: shop")
    assert (await wire.read_reply()).status == 200


async def test_nonsense_is_a_400(site: Site) -> None:
    """What is not HTTP gets a 400, and the server goes on."""
    wire = await site.wire()
    await wire.send_raw(b"tea, please!\r\n\r\n")
    assert (await wire.read_reply()).status == 400
    await site.assert_healthy()


async def test_unfinished_requests_harm_nobody(site: Site) -> None:
    """Connections which break in the middle of a request's head are forgotten."""
    for _ in range(OFTEN):
        wire = await site.wire()
        await wire.send_raw(b"GET / HT")
        wire.vanish()
    await site.assert_healthy()


async def test_crowd_is_served(site: Site) -> None:
    """Forty requests at once all get their own response."""
    paths = [f"/api/items/{number % 3 + 1}" for number in range(40)]
    replies = await asyncio.gather(*(site.anybody.get(path) for path in paths))
    assert [reply.json()["id"] for reply in replies] == [n % 3 + 1 for n in range(40)]


# Shutdown


async def test_shutdown_lets_everybody_go(site: Site) -> None:
    """Chatters get a close frame, listeners the end of the stream, waiters their receipt."""
    ada, bob, eve = [await site.browser(name) for name in ("ada", "bob", "eve")]
    await eve.post("/admin/warehouse", json={"open": False})
    waiting = asyncio.create_task(bob.get(await bob.order_teapot()))
    await site.shop.activity.wait_for("bob waits for order 1")
    feed = eve.session.get("/events", headers=EVENT_SOURCE)
    async with ada.session.ws_connect("/chat") as socket, feed as response:
        await site.shop.activity.wait_for("ada chats")
        stopping = asyncio.create_task(site.stop())
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)
        await response.read()
    assert (await waiting).status == 200
    await stopping


async def test_shutdown_cleans_up(site: Site) -> None:
    """After a stop nobody listens on the port, and the uploads are gone."""
    folder = site.uploads
    ada = await site.browser("ada")
    await ada.post("/uploads", data=file_form("a.txt", b"one"))
    assert (folder / "a.txt").exists()
    await site.stop()
    assert not folder.exists()
    with pytest.raises(aiohttp.ClientConnectorError):
        await (await site.browser()).get("/")
