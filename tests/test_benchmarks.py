"""Benchmarks that look inside the package still find there what they look at."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession, web

from benchmarks.servers import growing

pytestmark = pytest.mark.one_loop


@pytest.mark.parametrize("verb", ["verbs", "drain"])
async def test_growth(serve, http: ClientSession, verb: str, monkeypatch) -> None:
    """The line of the growth benchmark can be measured, and drained."""
    monkeypatch.setattr(growing, "TIMED", 10)
    monkeypatch.setattr(growing, "COUNTED", 5)
    app = web.Application()
    app.router.add_get(f"/{verb}", getattr(growing, verb))
    url = await serve(app)
    async with http.get(f"{url}/{verb}", params={"people": "20"}) as response:
        assert response.status == 200
        answer = await response.json()
    assert answer
    assert all(value >= 0 for value in answer.values())
