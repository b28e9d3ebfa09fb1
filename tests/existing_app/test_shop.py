"""What the shop promises to people and to programs."""

from __future__ import annotations

import asyncio
import contextlib
import json

from .clients import OFTEN, Site, in_pieces
from .shop import COOKIE

# Pages, sessions and forms


async def test_home_page_greets_a_stranger(site: Site) -> None:
    """Without a session the home page is an HTML page that names nobody."""
    reply = await site.anybody.get("/")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>Hello, stranger</h1>" in reply.text


async def test_login_page_has_the_form(site: Site) -> None:
    """The login page asks for a name and a password."""
    reply = await site.anybody.get("/login")
    assert "name=name" in reply.text
    assert "name=password" in reply.text


async def test_login_sets_the_cookie_and_redirects(site: Site) -> None:
    """A login answers 303 to the home page with an HttpOnly session cookie."""
    reply = await site.anybody.post("/login", data={"name": "ada", "password": "lovelace"})
    assert reply.status == 303
    assert reply.headers["Location"] == "/"
    cookie = reply.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


async def test_login_lasts_and_welcomes_once(site: Site) -> None:
    """After a login each page knows the name; the welcome is shown on the first only."""
    ada = await site.browser("ada")
    first, second = await ada.get("/"), await ada.get("/")
    assert "Hello, ada" in first.text
    assert "Welcome back, ada!" in first.text
    assert "Hello, ada" in second.text
    assert "Welcome back" not in second.text


async def test_login_can_be_followed_to_the_home_page(site: Site) -> None:
    """A browser which follows the redirect ends on the home page, logged in."""
    form = {"name": "bob", "password": "builder"}
    reply = await site.anybody.post("/login", data=form, allow_redirects=True)
    assert reply.status == 200
    assert "Hello, bob" in reply.text


async def test_wrong_login_is_refused(site: Site) -> None:
    """A wrong name or password gets the 403 page and no cookie."""
    for form in [{"name": "ada", "password": "guess"}, {"name": "zoe", "password": "x"}, {}]:
        reply = await site.anybody.post("/login", data=form)
        assert reply.status == 403
        assert "<h1>403 Forbidden</h1>" in reply.text
        assert "Set-Cookie" not in reply.headers


async def test_logout_ends_the_session_for_good(site: Site) -> None:
    """A logout takes the cookie away, and the old cookie opens nothing any more."""
    ada = await site.browser("ada")
    (cookie,) = ada.session.cookie_jar
    reply = await ada.post("/logout")
    assert reply.status == 303
    assert f'{COOKIE}="";' in reply.headers["Set-Cookie"]
    assert "stranger" in (await ada.get("/")).text
    replay = await ada.get("/sales.csv", headers={"Cookie": f"{COOKIE}={cookie.value}"})
    assert replay.status == 401


async def test_sessions_are_kept_apart(site: Site) -> None:
    """Two people at once each see their own name."""
    ada, bob = await site.browser("ada"), await site.browser("bob")
    pages = await asyncio.gather(*(who.get("/") for who in [ada, bob] * OFTEN))
    names = ["ada" if "Hello, ada" in page.text else "bob" for page in pages]
    assert names == ["ada", "bob"] * OFTEN
    assert all(f"Hello, {name}" in page.text for name, page in zip(names, pages, strict=True))


async def test_members_pages_refuse_strangers(site: Site) -> None:
    """Without a session, or with an invented one, a members' page is 401."""
    for path in ("/sales.csv", "/events", "/chat", "/admin/"):
        for headers in ({}, {"Cookie": f"{COOKIE}=invented"}):
            reply = await site.anybody.get(path, headers=headers)
            assert (path, reply.status) == (path, 401)
            assert "<h1>401 Unauthorized</h1>" in reply.text


async def test_review_is_shown_escaped(site: Site) -> None:
    """A posted review leads back to the home page and is harmless there."""
    ada = await site.browser("ada")
    reply = await ada.post("/reviews", data={"text": "<b>Très</b> good"})
    assert (reply.status, reply.headers["Location"]) == (303, "/")
    assert "&lt;b&gt;Très&lt;/b&gt; good" in (await site.anybody.get("/")).text


async def test_review_needs_a_text_and_a_login(site: Site) -> None:
    """An empty review is 400, a stranger's is 401, and neither is kept."""
    ada = await site.browser("ada")
    assert (await ada.post("/reviews", data={"text": "  "})).status == 400
    assert (await site.anybody.post("/reviews", data={"text": "hi"})).status == 401
    assert "blockquote" not in (await site.anybody.get("/")).text


# Errors and headers


async def test_unknown_page_is_an_html_404(site: Site) -> None:
    """What does not exist gets the HTML error page."""
    reply = await site.anybody.get("/nowhere")
    assert reply.status == 404
    assert reply.headers["Content-Type"].startswith("text/html")
    assert "<h1>404 Not Found</h1>" in reply.text


async def test_unknown_thing_in_the_api_is_a_json_404(site: Site) -> None:
    """Programs get their errors as JSON, for unknown paths and unknown things alike."""
    for path in ("/api/nothing", "/api/items/999"):
        reply = await site.anybody.get(path)
        assert (path, reply.status) == (path, 404)
        assert reply.json()["error"] == "Not Found"


async def test_wrong_method_says_which_are_right(site: Site) -> None:
    """A 405 page names the allowed methods."""
    reply = await site.anybody.post("/catalogue")
    assert reply.status == 405
    assert reply.headers["Allow"] == "GET,HEAD"
    assert "<h1>405 Method Not Allowed</h1>" in reply.text


async def test_bug_is_an_html_500_and_harms_nobody(site: Site) -> None:
    """A bug in a handler gets the error page with the request's id, each time anew."""
    for number in range(OFTEN):
        headers = {"X-Request-Id": f"bug-{number}"}
        reply = await site.anybody.get("/catalogue?columns=0", headers=headers)
        assert reply.status == 500
        assert "<h1>500 Internal Server Error</h1>" in reply.text
        assert f"Request bug-{number}" in reply.text
    await site.assert_healthy()


async def test_responses_carry_the_id_of_their_request(site: Site) -> None:
    """The caller's X-Request-Id comes back on any response, an error page too."""
    for path in ("/", "/nowhere", "/catalogue?columns=0", "/api/items/1", "/static/shop.css"):
        reply = await site.anybody.get(path, headers={"X-Request-Id": f"id-{path}"})
        assert reply.headers["X-Request-Id"] == f"id-{path}"


async def test_redirects_and_streams_carry_the_id_too(site: Site) -> None:
    """A redirect and a streamed download are no exceptions."""
    headers = {"X-Request-Id": "abc-2"}
    ada = await site.browser("ada")
    assert (await ada.get("/sales.csv", headers=headers)).headers["X-Request-Id"] == "abc-2"
    assert (await ada.post("/logout", headers=headers)).headers["X-Request-Id"] == "abc-2"


async def test_requests_without_id_get_one_each(site: Site) -> None:
    """Ids are made up for requests without, and never shared."""
    replies = await asyncio.gather(*(site.anybody.get("/") for _ in range(OFTEN)))
    ids = {reply.headers["X-Request-Id"] for reply in replies}
    assert len(ids) == OFTEN
    assert "" not in ids


async def test_handlers_know_the_id_of_their_request(site: Site) -> None:
    """The id is at hand in a handler without being passed there: the receipt shows it."""
    ada = await site.browser("ada")
    reply = await ada.post("/api/orders", json={"item": 2}, headers={"X-Request-Id": "order-2"})
    assert (await ada.get(reply.headers["Location"])).json()["request"] == "order-2"


# JSON API


async def test_items_can_be_listed_and_searched(site: Site) -> None:
    """The list has all items, or those that match a query in any script."""
    assert [item["name"] for item in (await site.anybody.get("/api/items")).json()] == [
        "teapot",
        "cup",
        "thé vert",
    ]
    reply = await site.anybody.get("/api/items", params={"q": "thé"})
    assert reply.json() == [{"id": 3, "name": "thé vert", "price": 9}]


async def test_item_lives_from_post_to_delete(site: Site) -> None:
    """An item can be created, read, changed and deleted, and is gone then."""
    ada = await site.browser("ada")
    created = await ada.post("/api/items", json={"name": "spoon", "price": 2})
    assert created.status == 201
    place = created.headers["Location"]
    assert place == "/api/items/4"
    assert (await ada.get(place)).json() == {"id": 4, "name": "spoon", "price": 2}
    changed = await ada.request("PUT", place, json={"name": "silver spoon", "price": 20})
    assert changed.json() == {"id": 4, "name": "silver spoon", "price": 20}
    assert (await ada.get(place)).json() == changed.json()
    deleted = await ada.request("DELETE", place)
    assert (deleted.status, deleted.body) == (204, b"")
    assert (await ada.get(place)).status == 404
    assert (await ada.request("DELETE", place)).status == 404


async def test_strangers_change_nothing(site: Site) -> None:
    """Whatever changes the items asks for a login, and nothing changes without."""
    before = (await site.anybody.get("/api/items")).body
    for method, path in [
        ("POST", "/api/items"),
        ("PUT", "/api/items/1"),
        ("DELETE", "/api/items/1"),
    ]:
        reply = await site.anybody.request(method, path, json={"name": "x", "price": 1})
        assert (method, reply.status) == (method, 401)
        assert reply.json()["error"] == "Unauthorized"
    assert (await site.anybody.get("/api/items")).body == before


async def test_malformed_item_is_a_400(site: Site) -> None:
    """What is not an item in JSON is the caller's mistake."""
    ada = await site.browser("ada")
    for body in (b"", b"{", b"[]", b'{"name": "x"}', b'{"name": 1, "price": {}}'):
        for method, path in [("POST", "/api/items"), ("PUT", "/api/items/1")]:
            reply = await ada.request(method, path, data=body)
            assert (body, method, reply.status) == (body, method, 400)


async def test_body_over_the_limit_is_a_413(site: Site) -> None:
    """A JSON body of just the limit is taken; a longer one, or a longer form, is refused."""
    ada, limit = await site.browser("ada"), site.shop.settings.max_body
    empty = json.dumps({"name": "", "price": 1}).encode()
    for excess, status in [(0, 201), (1, 413), (10 * limit, 413)]:
        name = "x" * (limit - len(empty) + excess)
        body = json.dumps({"name": name, "price": 1}).encode()
        assert (await ada.post("/api/items", data=body)).status == status
        assert (await ada.post("/api/items", data=in_pieces(body))).status == status
    assert (await ada.post("/reviews", data={"text": "x" * limit})).status == 413
    await site.assert_healthy()


async def test_options_list_the_methods(site: Site) -> None:
    """OPTIONS is answered for the list and for an item."""
    for path, allowed in [
        ("/api/items", "GET, HEAD, OPTIONS, POST"),
        ("/api/items/1", "DELETE, GET, HEAD, OPTIONS, PUT"),
    ]:
        reply = await site.anybody.request("OPTIONS", path)
        assert (reply.status, reply.headers["Allow"]) == (204, allowed)
    assert (await site.anybody.request("OPTIONS", "/catalogue")).status == 405


async def test_item_view_refuses_other_methods(site: Site) -> None:
    """The class of an item answers 405 to a method that it does not have."""
    reply = await site.anybody.request("PATCH", "/api/items/1")
    assert reply.status == 405
    assert set(reply.headers["Allow"].split(",")) == {"DELETE", "GET", "HEAD", "OPTIONS", "PUT"}


# Orders


async def test_order_is_packed_in_the_background(site: Site) -> None:
    """An order is taken at once, and its receipt follows when it has been packed."""
    ada = await site.browser("ada")
    reply = await ada.get(await ada.order_teapot())
    assert reply.status == 200
    assert reply.json()["item"]["name"] == "teapot"


async def test_order_of_an_unknown_item_is_a_404(site: Site) -> None:
    """There is no order for what the shop does not have."""
    ada = await site.browser("ada")
    assert (await ada.post("/api/orders", json={"item": 99})).status == 404
    assert site.shop.orders == {}


async def test_receipt_is_for_the_buyer_only(site: Site) -> None:
    """Somebody else's receipt does not exist, and a stranger has to log in."""
    ada, bob = await site.browser("ada"), await site.browser("bob")
    place = await ada.order_teapot()
    assert (await bob.get(place)).status == 404
    assert (await site.anybody.get(place)).status == 401


async def test_two_wait_at_once_while_others_shop(site: Site) -> None:
    """Requests that wait hold up neither each other nor those of other people."""
    ada, bob, eve = [await site.browser(name) for name in ("ada", "bob", "eve")]
    assert (await eve.post("/admin/warehouse", json={"open": False})).json() == {"open": False}
    waiting = [asyncio.create_task(who.get(await who.order_teapot())) for who in (ada, bob)]
    await site.shop.activity.wait_for("ada waits for order 1")
    await site.shop.activity.wait_for("bob waits for order 2")
    assert (await site.anybody.get("/")).status == 200
    assert not any(task.done() for task in waiting)
    await eve.post("/admin/warehouse", json={"open": True})
    assert [reply.status for reply in await asyncio.gather(*waiting)] == [200, 200]


async def test_one_browser_may_wait_and_go_on(site: Site) -> None:
    """One person's waiting request does not hold up that person's next ones."""
    ada, eve = await site.browser("ada"), await site.browser("eve")
    await eve.post("/admin/warehouse", json={"open": False})
    waiting = asyncio.create_task(ada.get(await ada.order_teapot()))
    await site.shop.activity.wait_for("ada waits for order 1")
    assert "Hello, ada" in (await ada.get("/")).text
    await eve.post("/admin/warehouse", json={"open": True})
    assert (await waiting).status == 200


async def test_leaving_while_waiting_harms_nobody(site: Site) -> None:
    """Somebody who hangs up while waiting leaves the order and the shop intact."""
    ada, eve = await site.browser("ada"), await site.browser("eve")
    for number in range(1, OFTEN + 1):
        await eve.post("/admin/warehouse", json={"open": False})
        waiting = asyncio.create_task(ada.get(await ada.order_teapot()))
        await site.shop.activity.wait_for(f"ada waits for order {number}")
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await eve.post("/admin/warehouse", json={"open": True})
        assert (await ada.get(f"/api/orders/{number}/receipt")).status == 200
    await site.assert_healthy()


# Compression


async def test_catalogue_is_compressed_on_request(site: Site) -> None:
    """The catalogue comes with gzip to who accepts it and plain to who does not."""
    packed = await site.anybody.get("/catalogue", headers={"Accept-Encoding": "gzip"})
    plain = await site.anybody.get("/catalogue", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.body == plain.body
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"])


# Back office


async def test_back_office_is_for_admins(site: Site) -> None:
    """Members who are no admins get a 403, on unknown pages of the back office too."""
    ada, eve = await site.browser("ada"), await site.browser("eve")
    for path in ("/admin/", "/admin/nowhere"):
        assert (await ada.get(path)).status == 403
    assert (await eve.get("/admin/nowhere")).status == 404


async def test_back_office_counts_the_orders(site: Site) -> None:
    """The overview has the orders and how many are packed, and must not be cached."""
    ada, eve = await site.browser("ada"), await site.browser("eve")
    await ada.get(await ada.order_teapot())
    await eve.post("/admin/warehouse", json={"open": False})
    await ada.order_teapot()
    reply = await eve.get("/admin/")
    assert reply.json() == {"orders": 2, "packed": 1}
    assert reply.headers["Cache-Control"] == "no-store"
