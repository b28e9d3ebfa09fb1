"""What the shop promises about uploads, downloads, the live feed and the chat."""

from __future__ import annotations

import asyncio
import hashlib
from email.utils import formatdate

import aiohttp
import pytest
from aiohttp import WSMsgType

from .clients import EVENT_SOURCE, OFTEN, UPGRADE, Feed, Site, file_form, in_pieces
from .media import PLACE
from .shop import STATIC

# Uploads


async def test_upload_comes_back_as_a_download(site: Site) -> None:
    """An uploaded file and the note beside it are kept to the byte."""
    ada, content = await site.browser("ada"), bytes(range(256)) * 300
    reply = await ada.post("/uploads", data=file_form("tea.bin", content, note="für dich"))
    assert reply.status == 201
    assert reply.json() == {"saved": {"tea.bin": len(content)}, "note": "für dich"}
    download = await site.anybody.get("/uploads/tea.bin")
    assert download.body == content
    assert download.headers["Content-Disposition"] == "attachment"


async def test_several_files_in_one_upload(site: Site) -> None:
    """All files of a form are saved, an empty one included."""
    ada, form = await site.browser("ada"), file_form("a.txt", b"one")
    form.add_field("file", b"", filename="b.txt")
    assert (await ada.post("/uploads", data=form)).json()["saved"] == {"a.txt": 3, "b.txt": 0}
    assert (await site.anybody.get("/uploads/b.txt")).body == b""


async def test_upload_stays_in_its_folder(site: Site) -> None:
    """A file name with a path is saved under its last part."""
    ada = await site.browser("ada")
    reply = await ada.post("/uploads", data=file_form("../../etc/passwd", b"root"))
    assert reply.json()["saved"] == {"passwd": 4}


async def test_upload_over_the_limit_leaves_nothing(site: Site) -> None:
    """A file over the limit is a 413, and no part of it is kept."""
    ada, limit = await site.browser("ada"), site.shop.settings.max_upload
    for excess, status in [(0, 201), (1, 413), (4 * limit, 413)]:
        form = file_form(f"{excess}.bin", bytes(limit + excess))
        assert (await ada.post("/uploads", data=form)).status == status
    assert (await ada.get("/uploads/0.bin")).status == 200
    assert (await ada.get("/uploads/1.bin")).status == 404
    await site.assert_healthy()


async def test_upload_of_something_else_is_refused(site: Site) -> None:
    """No multipart is 415, a form without file is 400, and a stranger is 401."""
    ada = await site.browser("ada")
    assert (await ada.post("/uploads", data=b"bytes")).status == 415
    with aiohttp.MultipartWriter("form-data") as form:
        form.append("just text").set_content_disposition("form-data", name="note")
    assert (await ada.post("/uploads", data=form)).status == 400
    stranger = await site.anybody.post("/uploads", data=file_form("a.txt", b"one"))
    assert stranger.status == 401


async def test_leaving_during_an_upload_leaves_nothing(site: Site) -> None:
    """Uploads that break off in the middle leave no file and a healthy server."""
    cookie = await site.cookie_line("ada")
    for times in range(1, OFTEN + 1):
        wire = await site.wire()
        await wire.send(
            "POST /uploads HTTP/1.1",
            "Host: shop",
            cookie,
            "Content-Type: multipart/form-data; boundary=tea",
            "Content-Length: 100000",
            body=b'--tea\r\nContent-Disposition: form-data; name="f"; filename="half.txt"\r\n\r\n',
        )
        await site.shop.activity.wait_for("ada uploads", times)
        await wire.send_raw(b"the first half")
        wire.vanish()
        await site.shop.activity.wait_for("ada uploads no more", times)
    assert (await site.anybody.get("/uploads/half.txt")).status == 404
    await site.assert_healthy()


# Request bodies


@pytest.mark.parametrize("pieces", [[], [b"tea"], [b"green ", b"tea"], [b"x" * 100_000] * 5])
async def test_chunked_body_is_read_as_it_comes(site: Site, pieces: list[bytes]) -> None:
    """A chunked body of any size, over the limit for forms too, gets its checksum."""
    whole = b"".join(pieces)
    reply = await site.anybody.post("/checksum", data=in_pieces(*pieces))
    assert reply.json() == {"size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}


async def test_body_of_known_length_gets_the_same_checksum(site: Site) -> None:
    """It does not matter how the body is framed."""
    reply = await site.anybody.post("/checksum", data=b"green tea")
    assert reply.json()["sha256"] == hashlib.sha256(b"green tea").hexdigest()


async def test_chunked_body_may_come_slowly(site: Site) -> None:
    """A body may come bit by bit, and other requests are served in between."""
    wire = await site.wire()
    await wire.send("POST /checksum HTTP/1.1", "Host: shop", "Transfer-Encoding: chunked")
    for piece in (b"green ", b"tea"):
        await wire.send_raw(b"%x\r\n%s\r\n" % (len(piece), piece))
        assert (await site.anybody.get("/api/items/1")).status == 200
    await wire.send_raw(b"0\r\n\r\n")
    assert (await wire.read_reply()).json()["size"] == 9


async def test_expect_continue_is_answered_before_the_body(site: Site) -> None:
    """With Expect: 100-continue the server asks for the body, then takes it."""
    wire = await site.wire()
    await wire.send(
        "POST /checksum HTTP/1.1", "Host: shop", "Expect: 100-continue", "Content-Length: 3"
    )
    assert (await wire.read_head())[0] == "HTTP/1.1 100 Continue"
    await wire.send_raw(b"tea")
    assert (await wire.read_reply()).json()["size"] == 3


async def test_client_may_expect_continue(site: Site) -> None:
    """A client library that waits for 100 Continue gets its upload through."""
    ada = await site.browser("ada")
    reply = await ada.post("/uploads", data=file_form("a.txt", b"one"), expect100=True)
    assert reply.status == 201


async def test_other_expectations_fail(site: Site) -> None:
    """An expectation nobody has heard of is a 417."""
    reply = await site.anybody.post("/checksum", data=b"tea", headers={"Expect": "sugar"})
    assert reply.status == 417


# Downloads


@pytest.mark.parametrize(
    ("wanted", "got", "content_range"),
    [
        ("bytes=0-3", b"abcd", "bytes 0-3/26"),
        ("bytes=20-", b"uvwxyz", "bytes 20-25/26"),
        ("bytes=-2", b"yz", "bytes 24-25/26"),
    ],
)
async def test_download_of_a_range(
    site: Site, alphabet: str, wanted: str, got: bytes, content_range: str
) -> None:
    """A Range gets just that part of the file."""
    reply = await site.anybody.get(alphabet, headers={"Range": wanted})
    assert reply.status == 206
    assert reply.body == got
    assert reply.headers["Content-Range"] == content_range


async def test_download_of_an_impossible_range(site: Site, alphabet: str) -> None:
    """A Range past the end is a 416 which tells the size."""
    reply = await site.anybody.get(alphabet, headers={"Range": "bytes=100-"})
    assert reply.status == 416
    assert reply.headers["Content-Range"] == "bytes */26"


async def test_download_only_if_changed(site: Site, alphabet: str) -> None:
    """Who has the file already, by tag or by date, gets a 304 without body."""
    full = await site.anybody.get(alphabet)
    for headers in [
        {"If-None-Match": full.headers["ETag"]},
        {"If-Modified-Since": full.headers["Last-Modified"]},
    ]:
        reply = await site.anybody.get(alphabet, headers=headers)
        assert (reply.status, reply.body) == (304, b"")
    since = {"If-Modified-Since": formatdate(0, usegmt=True)}
    assert (await site.anybody.get(alphabet, headers=since)).status == 200


async def test_head_of_a_download(site: Site, alphabet: str) -> None:
    """HEAD tells the size of a file and sends nothing of it."""
    reply = await site.anybody.request("HEAD", alphabet)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["Content-Length"] == "26"


async def test_missing_download_is_a_404(site: Site) -> None:
    """There is an error page for files that nobody has uploaded."""
    reply = await site.anybody.get("/uploads/none.txt")
    assert reply.status == 404
    assert "<h1>404 Not Found</h1>" in reply.text


async def test_static_files_are_served(site: Site) -> None:
    """The style sheet comes as it is on disk, and an unknown one is a 404."""
    reply = await site.anybody.get("/static/shop.css")
    assert reply.headers["Content-Type"].startswith("text/css")
    assert reply.body == (STATIC / "shop.css").read_bytes()
    assert (await site.anybody.get("/static/none.css")).status == 404


async def test_sales_are_streamed(site: Site) -> None:
    """The sales come in chunks, complete and in order."""
    ada = await site.browser("ada")
    reply = await ada.get("/sales.csv?years=2")
    assert reply.headers["Transfer-Encoding"] == "chunked"
    lines = reply.text.splitlines()
    assert lines[:3] == ["year,day,sold,place", f"0,1,0,{PLACE}", f"0,2,0,{PLACE}"]
    assert lines[-1] == f"1,365,365,{PLACE}"
    assert len(lines) == 1 + 2 * 365


async def test_large_stream_arrives_whole(site: Site) -> None:
    """More than fits into any buffer arrives whole, at a reader in small steps too."""
    ada = await site.browser("ada")
    async with ada.session.get("/sales.csv?years=200") as response:
        sales = b"".join([chunk async for chunk in response.content.iter_chunked(1000)])
    assert sales.count(b"\n") == 1 + 200 * 365
    assert sales.endswith(f"\n199,365,72635,{PLACE}\n".encode())


async def test_leaving_during_a_stream_harms_nobody(site: Site) -> None:
    """Clients that hang up in the middle of a download leave a healthy server."""
    ada = await site.browser("ada")
    for times in range(1, OFTEN + 1):
        async with ada.session.get("/sales.csv?years=10000000") as response:
            assert await response.content.readline() == b"year,day,sold,place\n"
            response.close()
        await site.shop.activity.wait_for("sales broken off", times)
    await site.assert_healthy()


async def test_two_streams_at_once(site: Site) -> None:
    """Two downloads do not mix."""
    ada = await site.browser("ada")
    long, short = await asyncio.gather(
        ada.get("/sales.csv?years=20"), ada.get("/sales.csv?years=2")
    )
    assert long.text.startswith(short.text)
    assert len(long.text.splitlines()) == 1 + 20 * 365


# Live feed


async def test_feed_tells_what_happens_as_it_happens(site: Site) -> None:
    """A listener gets each event, with its number, while the stream stays open."""
    ada, bob = await site.browser("ada"), await site.browser("bob")
    async with ada.session.get("/events", headers=EVENT_SOURCE) as response:
        assert response.content_type == "text/event-stream"
        feed = Feed(response)
        await site.shop.activity.wait_for("ada listens")
        place = await bob.order_teapot()
        await bob.get(place)
        assert await feed.event() == ["id: 2", "data: bob waits for order 1"]
        assert await feed.event() == ["id: 3", "data: bob has order 1"]
        await bob.get("/sales.csv")
        assert await feed.event() == ["id: 4", "data: sales complete"]


async def test_feed_resumes_where_a_listener_left(site: Site) -> None:
    """Last-Event-ID brings what has been missed."""
    ada = await site.browser("ada")
    for _ in range(2):
        await ada.get("/sales.csv")
    headers = {**EVENT_SOURCE, "Last-Event-ID": "1"}
    async with ada.session.get("/events", headers=headers) as response:
        feed = Feed(response)
        assert await feed.event() == ["id: 2", "data: sales complete"]
        assert await feed.event() == ["id: 3", "data: ada listens"]


async def test_feed_shows_that_it_lives(site: Site) -> None:
    """A silent feed sends comments from time to time."""
    ada = await site.browser("ada")
    async with ada.session.get("/events", headers=EVENT_SOURCE) as response:
        assert await Feed(response).block() == [": still here"]
        assert await Feed(response).block() == [": still here"]


async def test_leaving_the_feed_harms_nobody(site: Site) -> None:
    """Listeners who hang up are noticed, and the server stays healthy."""
    ada = await site.browser("ada")
    for times in range(1, OFTEN + 1):
        async with ada.session.get("/events", headers=EVENT_SOURCE) as response:
            assert response.status == 200
            response.close()
        await site.shop.activity.wait_for("ada listens no more", times)
    await site.assert_healthy()


# Chat


async def test_chat_reaches_everybody(site: Site) -> None:
    """What one says, all in the chat hear, each in the order it was said."""
    ada, bob = await site.browser("ada"), await site.browser("bob")
    async with ada.session.ws_connect("/chat") as hers, bob.session.ws_connect("/chat") as his:
        await site.shop.activity.wait_for("ada chats")
        await site.shop.activity.wait_for("bob chats")
        await hers.send_str("tea?")
        for ears in (hers, his):
            assert await ears.receive_json() == {"from": "ada", "text": "tea?"}
        await his.send_str("later")
        for ears in (hers, his):
            assert await ears.receive_json() == {"from": "bob", "text": "later"}
        assert (await site.anybody.get("/")).status == 200


async def test_chat_echoes_bytes(site: Site) -> None:
    """Bytes come back to who sent them, however many, and a ping gets its pong."""
    ada = await site.browser("ada")
    async with ada.session.ws_connect("/chat", autoping=False) as socket:
        for size in (0, 1, 200, 70_000):
            await socket.send_bytes(b"t" * size)
            assert await socket.receive_bytes() == b"t" * size
        await socket.ping(b"there?")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"there?")


async def test_chat_speaks_its_protocol(site: Site) -> None:
    """The subprotocol is agreed on, and the handshake carries the request's id."""
    ada = await site.browser("ada")
    async with ada.session.ws_connect(
        "/chat", protocols=["shop-chat"], headers={"X-Request-Id": "chat-1"}
    ) as socket:
        assert socket.protocol == "shop-chat"
        assert socket._response.headers["X-Request-Id"] == "chat-1"


async def test_chat_says_goodbye(site: Site) -> None:
    """Who says bye gets a regular close, and the seat is free again."""
    ada = await site.browser("ada")
    for times in range(1, OFTEN + 1):
        async with ada.session.ws_connect("/chat") as socket:
            await socket.send_str("bye")
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1000, "see you")
        await site.shop.activity.wait_for("ada chats no more", times)
    await site.assert_healthy()


async def test_leaving_the_chat_harms_nobody(site: Site) -> None:
    """Chatters whose connection breaks are noticed, and the server stays healthy."""
    cookie = await site.cookie_line("ada")
    for times in range(1, OFTEN + 1):
        wire = await site.wire()
        await wire.send(*UPGRADE, cookie)
        assert (await wire.read_head())[0] == "HTTP/1.1 101 Switching Protocols"
        await site.shop.activity.wait_for("ada chats", times)
        wire.vanish()
        await site.shop.activity.wait_for("ada chats no more", times)
    assert site.shop.chatters == {}
    await site.assert_healthy()


async def test_chat_needs_a_login_and_a_websocket(site: Site) -> None:
    """A stranger's handshake is a 401, a member's plain GET is a 400."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await site.anybody.session.ws_connect("/chat")
    assert refused.value.status == 401
    ada = await site.browser("ada")
    assert (await ada.get("/chat")).status == 400


async def test_refused_handshake_keeps_the_connection(site: Site) -> None:
    """After a refused handshake the connection is still good for other requests."""
    wire = await site.wire()
    await wire.send(*UPGRADE)
    assert (await wire.read_reply()).status == 401
    await wire.send("GET /api/items/1 HTTP/1.1", "Host: shop")
    assert (await wire.read_reply()).status == 200
