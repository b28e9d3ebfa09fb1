"""Files that a client names by a URL, from where the app allows it: it is the server that asks.

Whoever may name any URL can make the server ask what only it can reach (CWE-918).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable

import aiohttp
from yarl import URL

from .._arrivals import Arrivals
from .._upload import Upload
from ._refusals import wrong_argument

__all__ = ["AllowURL", "Fetcher"]

logger = logging.getLogger("aioqueue")

AllowURL = Callable[[URL], bool | Awaitable[bool]]
"""Says whether the server may get a file from there for a client."""

_CHUNK = 256 << 10
_SECONDS = 30
"""What a whole file may take; the Python client waits five seconds for its answer."""


class Fetcher:
    """Gets files from elsewhere.

    Args:
        allow: which URLs; None is none.
    """

    def __init__(self, allow: AllowURL | None) -> None:
        self._allow = allow
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let connections go."""
        if self._session is not None:
            await self._session.close()

    async def fetch(self, name: str, address: str, arrivals: Arrivals, max_bytes: int) -> Upload:
        """Get the file for a parameter, at most so many bytes; 0 is no bound but the spool's.

        A redirect is not followed: where it leads nobody has allowed.

        Raises:
            Refused: 422, it is not allowed, not there, or too large; 503, there is no room.
        """
        url = await self._allowed(name, address)
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_SECONDS)
            # What one client's source sets is nothing to send for another client.
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=jar)
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise wrong_argument(
                        name, f"can't be fetched: the answer was {response.status}"
                    )
                with arrivals.open(url.name, response.headers.get("Content-Type")) as arrival:
                    size = 0
                    async for chunk in response.content.iter_chunked(_CHUNK):
                        size += len(chunk)
                        if max_bytes and size > max_bytes:
                            raise wrong_argument(name, f"may have {max_bytes} bytes")
                        await arrival.write(chunk)
                    return await arrival.end()
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.warning("%s could not be fetched: %r", url, error)
            raise wrong_argument(name, "can't be fetched") from None

    async def _allowed(self, name: str, address: str) -> URL:
        try:
            url = URL(address)
        except ValueError:
            raise wrong_argument(name, "is no URL") from None
        answer = self._allow is not None and self._allow(url)
        if inspect.isawaitable(answer):
            answer = await answer
        if not answer:
            raise wrong_argument(name, "is a URL, and files from there are not taken: upload it")
        return url
