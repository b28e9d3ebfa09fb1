"""A small web shop: its pages, its API, its back office, and how it is put together."""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path

from aiohttp import WSCloseCode, web

from . import media
from .members import Handler, current_user, members_only
from .models import SESSION, SHOP, UPLOADS, Item, Order, Session, Settings, Shop

COOKIE = "shop_session"
STATIC = Path(__file__).parent / "static"

log = logging.getLogger("shop")
request_id: ContextVar[str] = ContextVar("request_id", default="")

routes = web.RouteTableDef()
admin_routes = web.RouteTableDef()


# Middlewares and signals


def page(title: str, body: str, status: int = 200) -> web.Response:
    """An HTML page."""
    text = (
        f"<!doctype html><title>{html.escape(title)}</title>"
        f'<link rel="stylesheet" href="/static/shop.css"><h1>{html.escape(title)}</h1>{body}'
    )
    return web.Response(text=text, status=status, content_type="text/html")


@web.middleware
async def request_ids(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give each request the id it comes with, or a new one."""
    request_id.set(request.headers.get("X-Request-Id") or secrets.token_hex(8))
    return await handler(request)


async def send_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Put the id of the request on its response, of whatever kind that is."""
    response.headers["X-Request-Id"] = request_id.get()


@web.middleware
async def error_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as HTML for people and as JSON for programs; redirects go through."""
    allow = None
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        status, reason, allow = error.status, error.reason, error.headers.get("Allow")
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        status, reason = 500, "Internal Server Error"
    if request.path.startswith("/api/"):
        answer = web.json_response({"error": reason, "request": request_id.get()}, status=status)
    else:
        answer = page(f"{status} {reason}", f"<p>Request {request_id.get()}</p>", status)
    if allow is not None:
        answer.headers["Allow"] = allow
    return answer


@web.middleware
async def sessions(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find the session of the cookie, and refuse strangers where a login is needed."""
    session = request.app[SHOP].sessions.get(request.cookies.get(COOKIE, ""))
    changes_data = request.path.startswith("/api/") and request.method in {"POST", "PUT", "DELETE"}
    if session is not None:
        request[SESSION] = session
    elif changes_data or getattr(request.match_info.handler, "members_only", False):
        raise web.HTTPUnauthorized
    return await handler(request)


# Pages


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    """The welcome, the reviews and the form for another one."""
    shop, session = request.app[SHOP], request.get(SESSION)
    title = f"Hello, {session.user.name}" if session else "Hello, stranger"
    flashes = session.flashes if session else []
    body = "".join(f"<p class=flash>{html.escape(flash)}</p>" for flash in flashes)
    flashes.clear()
    for name, text in shop.reviews:
        body += f"<blockquote>{html.escape(text)} &ndash; {html.escape(name)}</blockquote>"
    body += '<form method=post action="/reviews"><input name=text><button>Send</button></form>'
    return page(title, body)


@routes.post("/reviews")
@members_only
async def add_review(request: web.Request) -> web.Response:
    """Take a review from the form on the home page."""
    text = str((await request.post()).get("text", "")).strip()
    if not text:
        raise web.HTTPBadRequest
    request.app[SHOP].reviews.append((current_user(request).name, text))
    raise web.HTTPSeeOther("/")


@routes.get("/login")
async def login_page(request: web.Request) -> web.Response:
    """The form to log in with."""
    fields = "<input name=name><input name=password type=password><button>Log in</button>"
    return page("Log in", f"<form method=post>{fields}</form>")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Start a session."""
    shop, form = request.app[SHOP], await request.post()
    user = shop.users.get(str(form.get("name")))
    if user is None or user.password != form.get("password"):
        raise web.HTTPForbidden
    token = secrets.token_urlsafe()
    shop.sessions[token] = Session(user, [f"Welcome back, {user.name}!"])
    redirect = web.HTTPSeeOther("/")
    redirect.set_cookie(COOKIE, token, httponly=True, samesite="Lax")
    raise redirect


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    """End the session, here and in the browser."""
    request.app[SHOP].sessions.pop(request.cookies.get(COOKIE, ""), None)
    redirect = web.HTTPSeeOther("/")
    redirect.del_cookie(COOKIE)
    raise redirect


@routes.get("/catalogue")
async def catalogue(request: web.Request) -> web.Response:
    """All items as a table. Known bug: ``?columns=0`` breaks it."""
    columns = int(request.query.get("columns", "4"))
    cells = [f"<td>{html.escape(item.name)}" for item in request.app[SHOP].items.values()] * 50
    rows = ["".join(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    response = page("Catalogue", f"<table><tr>{'<tr>'.join(rows)}</table>")
    response.enable_compression()
    return response


# JSON API


async def read_item(request: web.Request) -> tuple[str, int]:
    """Name and price from a JSON body."""
    try:
        data = await request.json()
        return str(data["name"]), int(data["price"])
    except (ValueError, KeyError, TypeError) as error:
        raise web.HTTPBadRequest from error


@routes.options("/api/items")
async def item_list_options(request: web.Request) -> web.Response:
    """What can be done with the list."""
    return web.Response(status=204, headers={"Allow": "GET, HEAD, OPTIONS, POST"})


@routes.get("/api/items")
async def list_items(request: web.Request) -> web.Response:
    """All items, or those with ``q`` in their name."""
    wanted = request.query.get("q", "")
    found = [item for item in request.app[SHOP].items.values() if wanted in item.name]
    return web.json_response([item.as_json() for item in found])


@routes.post("/api/items")
async def add_item(request: web.Request) -> web.Response:
    """Add an item."""
    items = request.app[SHOP].items
    name, price = await read_item(request)
    item = Item(max(items, default=0) + 1, name, price)
    items[item.id] = item
    place = request.app.router["item"].url_for(id=str(item.id))
    return web.json_response(item.as_json(), status=201, headers={"Location": str(place)})


@routes.view(r"/api/items/{id:\d+}", name="item")
class ItemView(web.View):
    @property
    def item(self) -> Item:
        item = self.request.app[SHOP].items.get(int(self.request.match_info["id"]))
        if item is None:
            raise web.HTTPNotFound
        return item

    async def get(self) -> web.Response:
        return web.json_response(self.item.as_json())

    head = get

    async def put(self) -> web.Response:
        item = self.item
        item.name, item.price = await read_item(self.request)
        return web.json_response(item.as_json())

    async def delete(self) -> web.Response:
        del self.request.app[SHOP].items[self.item.id]
        return web.Response(status=204)

    async def options(self) -> web.Response:
        return web.Response(status=204, headers={"Allow": "DELETE, GET, HEAD, OPTIONS, PUT"})


@routes.post("/api/orders")
async def place_order(request: web.Request) -> web.Response:
    """Take an order; its receipt is to be had as soon as it is packed."""
    shop, data = request.app[SHOP], await request.json()
    item = shop.items.get(data["item"])
    if item is None:
        raise web.HTTPNotFound
    order = Order(len(shop.orders) + 1, item, current_user(request), request_id.get())
    shop.orders[order.id] = order
    shop.to_pack.put_nowait(order)
    place = f"/api/orders/{order.id}/receipt"
    return web.json_response({"id": order.id}, status=202, headers={"Location": place})


@routes.get(r"/api/orders/{id:\d+}/receipt")
@members_only
async def receipt(request: web.Request) -> web.Response:
    """Answers when the warehouse has packed the order, however long that takes."""
    shop, user = request.app[SHOP], current_user(request)
    order = shop.orders.get(int(request.match_info["id"]))
    if order is None or order.buyer is not user:
        raise web.HTTPNotFound
    shop.activity.add(f"{user.name} waits for order {order.id}")
    await order.packed.wait()
    shop.activity.add(f"{user.name} has order {order.id}")
    return web.json_response({"item": order.item.as_json(), "request": order.request_id})


# Back office


@web.middleware
async def admins_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep everybody else out, and caches too."""
    if not current_user(request).admin:
        raise web.HTTPForbidden
    response = await handler(request)
    response.headers["Cache-Control"] = "no-store"
    return response


@admin_routes.get("/")
async def overview(request: web.Request) -> web.Response:
    """How many orders there are."""
    shop = request.config_dict[SHOP]
    packed = sum(order.packed.is_set() for order in shop.orders.values())
    return web.json_response({"orders": len(shop.orders), "packed": packed})


@admin_routes.post("/warehouse")
async def warehouse_door(request: web.Request) -> web.Response:
    """Open or close the warehouse."""
    door = request.config_dict[SHOP].warehouse_open
    if (await request.json())["open"]:
        door.set()
    else:
        door.clear()
    return web.json_response({"open": door.is_set()})


# The application


async def upload_folder(app: web.Application) -> AsyncIterator[None]:
    """Uploads last as long as the application runs."""
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        app[UPLOADS] = Path(folder)
        yield


async def warehouse(app: web.Application) -> AsyncIterator[None]:
    """A task in the background packs the orders while the warehouse is open."""
    shop = app[SHOP]

    async def pack() -> None:
        while True:
            order = await shop.to_pack.get()
            await shop.warehouse_open.wait()
            order.packed.set()

    packer = asyncio.create_task(pack())
    yield
    packer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await packer


async def say_goodbye(app: web.Application) -> None:
    """Let everybody go who would stay longer than a shutdown should take."""
    shop = app[SHOP]
    shop.activity.close()
    shop.warehouse_open.set()
    for socket in list(shop.chatters):
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"closing time")


def make_app(settings: Settings | None = None) -> web.Application:
    """The whole shop."""
    settings = settings or Settings()
    app = web.Application(
        middlewares=[request_ids, error_pages, sessions], client_max_size=settings.max_body
    )
    app[SHOP] = Shop(settings)
    app.add_routes(routes)
    app.add_routes(media.routes)
    app.router.add_static("/static", STATIC)
    admin = web.Application(middlewares=[admins_only])
    admin.add_routes(admin_routes)
    app.add_subapp("/admin/", admin)
    app.on_response_prepare.append(send_request_id)
    app.on_shutdown.append(say_goodbye)
    app.cleanup_ctx.extend([upload_folder, warehouse])
    return app


if __name__ == "__main__":
    web.run_app(make_app())
