"""What takes its time: uploads, downloads, the live feed and the chat."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from pathlib import Path

from aiohttp import BodyPartReader, WSMsgType, web

from .members import current_user, members_only
from .models import SHOP, UPLOADS

PLACE = '"Teapots and Cups, 12 Harbour Street, Bristol"'

log = logging.getLogger("shop.media")

routes = web.RouteTableDef()


# Uploads and downloads


async def save_part(part: BodyPartReader, path: Path, limit: int) -> int:
    """Write an uploaded file piece by piece; leave nothing of one that fails."""
    size = 0
    try:
        with path.open("wb") as file:
            while chunk := await part.read_chunk(8192):
                size += len(chunk)
                if size > limit:
                    raise web.HTTPRequestEntityTooLarge(limit, size)
                file.write(chunk)
    except BaseException:
        os.unlink(path)
        raise
    return size


@routes.post("/uploads")
@members_only
async def upload(request: web.Request) -> web.Response:
    """Save the files of a form as they arrive."""
    if not request.content_type.startswith("multipart/"):
        raise web.HTTPUnsupportedMediaType
    shop, user, note, saved = request.app[SHOP], current_user(request), "", {}
    shop.activity.add(f"{user.name} uploads")
    try:
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            if part.filename:
                path = request.app[UPLOADS] / Path(part.filename).name
                saved[path.name] = await save_part(part, path, shop.settings.max_upload)
            elif part.name == "note":
                note = await part.text()
    finally:
        shop.activity.add(f"{user.name} uploads no more")
    if not saved:
        raise web.HTTPBadRequest
    return web.json_response({"saved": saved, "note": note}, status=201)


@routes.get("/uploads/{name}")
async def download(request: web.Request) -> web.FileResponse:
    """An uploaded file."""
    path = request.app[UPLOADS] / request.match_info["name"]
    if not path.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(path, headers={"Content-Disposition": "attachment"})


@routes.post("/checksum")
async def checksum(request: web.Request) -> web.Response:
    """The checksum of a body of any size, which is never in memory as a whole."""
    size, digest = 0, hashlib.sha256()
    async for chunk in request.content.iter_chunked(4096):
        size += len(chunk)
        digest.update(chunk)
    return web.json_response({"size": size, "sha256": digest.hexdigest()})


@routes.get("/sales.csv")
@members_only
async def sales(request: web.Request) -> web.StreamResponse:
    """The sales of some years, written year by year."""
    shop, years = request.app[SHOP], int(request.query.get("years", "3"))
    response = web.StreamResponse(headers={"Content-Type": "text/csv"})
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    outcome = "broken off"
    try:
        await response.write(b"year,day,sold,place\n")
        for year in range(years):
            lines = [f"{year},{day},{year * day},{PLACE}\n" for day in range(1, 366)]
            await response.write("".join(lines).encode())
        await response.write_eof()
        outcome = "complete"
    except ConnectionError:
        log.info("the client has left in the middle of the sales")
    finally:
        shop.activity.add(f"sales {outcome}")
    return response


# Live feed and chat


@routes.get("/events", allow_head=False)
@members_only
async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events: the activity of the shop, as it happens."""
    shop, user = request.app[SHOP], current_user(request)
    activity = shop.activity
    activity.add(f"{user.name} listens")
    seen = int(request.headers.get("Last-Event-ID", len(activity.entries)))
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    response = web.StreamResponse(headers=headers)
    try:
        await response.prepare(request)
        while not activity.closed:
            try:
                news = await asyncio.wait_for(activity.after(seen), shop.settings.heartbeat)
            except TimeoutError:
                await response.write(b": still here\n\n")
                continue
            for entry in news:
                seen += 1
                await response.write(f"id: {seen}\ndata: {entry}\n\n".encode())
    except ConnectionError:
        log.info("%s has left the live feed", user.name)
    finally:
        activity.add(f"{user.name} listens no more")
    return response


@routes.get("/chat", allow_head=False)
@members_only
async def chat(request: web.Request) -> web.WebSocketResponse:
    """Text goes to everybody, bytes come back to their sender, "bye" leaves."""
    shop, user = request.app[SHOP], current_user(request)
    socket = web.WebSocketResponse(protocols=["shop-chat"])
    await socket.prepare(request)
    shop.chatters[socket] = user
    shop.activity.add(f"{user.name} chats")
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data == "bye":
                await socket.close(message=b"see you")
            else:
                for other in list(shop.chatters):
                    with contextlib.suppress(ConnectionError):
                        await other.send_json({"from": user.name, "text": message.data})
    finally:
        del shop.chatters[socket]
        shop.activity.add(f"{user.name} chats no more")
    return socket
