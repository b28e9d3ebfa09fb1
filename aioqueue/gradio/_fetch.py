"""Files that a client names by a URL, from where the app allows it: it is the server that asks.

Whoever may name any URL can make the server ask what only it can reach (CWE-918).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aiohttp
from yarl import URL

from .._arrivals import Arrivals
from .._request_hooks import ask
from .._upload import Upload
from ._refusals import wrong_argument

__all__ = ["FETCH_SECONDS", "AllowURL", "Fetcher"]

logger = logging.getLogger("aioqueue")

AllowURL = Callable[[URL], bool | Awaitable[bool]]
"""Says whether the server may get a file from there for a client."""

_CHUNK = 256 << 10

FETCH_SECONDS = 30
"""What all files of a job may take; the Python client waits five seconds for its answer."""


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

    async def fetch(
        self, name: str, address: str, arrivals: Arrivals, max_bytes: int, deadline: float
    ) -> Upload:
        """Get the file for a parameter.

        A redirect is not followed: where it leads nobody has allowed.

        Args:
            name: the parameter.
            address: the URL.
            arrivals: where it goes.
            max_bytes: how many bytes it may have; 0 is no bound but the spool's.
            deadline: the loop's time by which it must be here.

        Raises:
            Refused: 422, it is not allowed, not there, too large or too slow; 500, the hook failed;
                503, there is no room.
        """
        url = _readable(name, address)
        try:
            async with asyncio.timeout_at(deadline):
                if self._allow is None or not await ask(self._allow, url):
                    message = "is a URL, and files from there are not taken: upload it"
                    raise wrong_argument(name, message)
                return await self._get(name, url, arrivals, max_bytes)
        except (aiohttp.ClientError, TimeoutError, UnicodeError) as error:
            # Not the rest of the URL, which may have secrets, nor the error's text, which may have
            # the URL.  Only a text's repr is safe in a log: that of a URL is as it came.
            where, what = str(url.origin()), type(error).__name__
            logger.warning("a file from %r could not be fetched: %s", where, what)
            raise wrong_argument(name, "can't be fetched") from None

    async def _get(self, name: str, url: URL, arrivals: Arrivals, max_bytes: int) -> Upload:
        if self._session is None:
            # What one client's source sets is nothing to send for another client.
            jar = aiohttp.DummyCookieJar()
            timeout = aiohttp.ClientTimeout(total=None)  # the deadline is the job's
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=jar)
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise wrong_argument(name, f"can't be fetched: the answer was {response.status}")
            with arrivals.open(url.name, response.headers.get("Content-Type")) as arrival:
                size = 0
                async for chunk in response.content.iter_chunked(_CHUNK):
                    size += len(chunk)
                    if max_bytes and size > max_bytes:
                        raise wrong_argument(name, f"may have {max_bytes} bytes")
                    await arrival.write(chunk)
                return await arrival.end()


def _readable(name: str, address: str) -> URL:
    """A URL whose parts a hook can look at; some can't be decoded, and say so only then."""
    try:
        url = URL(address)
        if url.origin().host:
            return url
    except ValueError:
        pass
    raise wrong_argument(name, "is no URL")
