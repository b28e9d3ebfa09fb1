"""How a submit is answered: the rules of `Accept` and `Prefer`, line by line."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from aioqueue._negotiation import Mode, Preferences, choose_mode, preferences, split

ACCEPTED, WAIT, STREAM = Mode.ACCEPTED, Mode.WAIT, Mode.STREAM
SSE, JSON = "text/event-stream", "application/json"


def mode_of(accept: str, *prefer: str) -> Mode:
    """How a request with these headers is answered."""
    return choose_mode(accept, preferences(prefer))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        # Named explicitly, in any case and with any parameters.
        ("text/event-stream", STREAM),
        ("Text/Event-Stream", STREAM),
        ("text/event-stream;charset=utf-8", STREAM),
        ("text/event-stream ; q=0.1", STREAM),
        (' text/event-stream; x="a,b;q=0" ; q=0.5', STREAM),
        ("text/html, text/event-stream, image/*", STREAM),
        # With a weight above nothing, and not below that of JSON.
        ("text/event-stream;q=0", ACCEPTED),
        ("text/event-stream;q=0.000", ACCEPTED),
        ("text/event-stream;Q=0", ACCEPTED),
        ("text/event-stream;q=0.001", STREAM),
        ("text/event-stream;q=0.5, application/json", ACCEPTED),
        ("text/event-stream;q=0.5, application/json;q=0.6", ACCEPTED),
        ("text/event-stream;q=0.6, application/json;q=0.5", STREAM),
        ("application/json;q=0.5;ext=1, text/event-stream;q=0.6", STREAM),
        # JSON counts as it is matched: by its name, else by a wildcard, the nearest first.
        ("text/event-stream;q=0.5, */*", ACCEPTED),
        ("text/event-stream;q=0.5, application/*", ACCEPTED),
        ("text/event-stream;q=0.5, application/*;q=0.1, */*", STREAM),
        ("text/event-stream;q=0.5, application/json;q=0.1, application/*", STREAM),
        ("text/event-stream, */*;q=0.1", STREAM),
        # A wildcard never selects a stream: everybody sends them.
        ("", ACCEPTED),
        ("*/*", ACCEPTED),
        ("text/*", ACCEPTED),
        ("text/*, application/json;q=0", ACCEPTED),
        # An exact tie is a stream: MCP clients send both.
        ("application/json, text/event-stream", STREAM),
        ("text/event-stream;q=0.3, application/json;q=0.300", STREAM),
        ("text/event-stream, */*", STREAM),
        # What can't be read is */*, and a weight that can't be read is 1.
        ("text/event-stream/x", ACCEPTED),
        ("text event-stream", ACCEPTED),
        ("/event-stream", ACCEPTED),
        ("text/", ACCEPTED),
        (",;,;q=1,/", ACCEPTED),
        ('"text/event-stream"', ACCEPTED),
        ("text/event-stream;q=abc, application/json", STREAM),
        ("text/event-stream;q=-1, application/json", STREAM),
        ("text/event-stream;q=0.², application/json", STREAM),
        ("text/event-stream;q=7, application/json", STREAM),
        # What matches nothing gets JSON: a 406 would lose the job.
        ("image/png", ACCEPTED),
        ("application/json;q=0", ACCEPTED),
    ],
)
def test_accept(accept: str, expected: Mode) -> None:
    """A stream is for those who name it, and want it at least as much as JSON."""
    assert mode_of(accept) == expected


@pytest.mark.parametrize(
    ("accept", "prefer", "expected"),
    [
        (JSON, "wait=5", WAIT),
        ("", "wait=5", WAIT),
        ("", "wait=0", WAIT),
        ("", "respond-async", ACCEPTED),
        ("", "respond-async, wait=5", WAIT),
        # A wish for an answer decides a tie, and only that.
        (f"{JSON}, {SSE}", "wait=5", WAIT),
        (f"{JSON}, {SSE}", "respond-async", ACCEPTED),
        (f"{SSE}, */*", "wait=5", WAIT),
        (f"{SSE}, */*", "handling=lenient", STREAM),
        (SSE, "wait=5", STREAM),
        (SSE, "respond-async", STREAM),
        (f"{SSE}, {JSON};q=0.9", "wait=5", STREAM),
        (f"{SSE};q=0.9, {JSON}", "wait=5", WAIT),
    ],
)
def test_accept_and_prefer(accept: str, prefer: str, expected: Mode) -> None:
    """The media type decides; preferences decide between answers that are as welcome."""
    assert mode_of(accept, prefer) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Preferences()),
        ([""], Preferences()),
        (["respond-async"], Preferences(True)),
        (["Respond-Async"], Preferences(True)),
        (["respond-async=1; x=2"], Preferences(True)),
        (["wait=5"], Preferences(False, 5)),
        (["WAIT=5"], Preferences(False, 5)),
        (['wait = "5"'], Preferences(False, 5)),
        (['wait="\\5"'], Preferences(False, 5)),
        (["wait\t=\t5 ; x=y"], Preferences(False, 5)),
        (["wait=0005"], Preferences(False, 5)),
        (["wait=0"], Preferences(False, 0)),
        (["wait=00"], Preferences(False, 0)),
        (["respond-async, wait=10"], Preferences(True, 10)),
        # Several lines combine, and the first of a kind counts.
        (["respond-async", "wait=10"], Preferences(True, 10)),
        (["wait=5, wait=6"], Preferences(False, 5)),
        (["wait=5", "wait=6"], Preferences(False, 5)),
        (["wait=abc, wait=6"], Preferences()),
        # What is unknown, or can't be read, is not there.
        (["return=minimal; wait=3, handling=lenient"], Preferences()),
        (["wait"], Preferences()),
        (["wait="], Preferences()),
        (['wait=""'], Preferences()),
        (["wait=-1"], Preferences()),
        (["wait=+1"], Preferences()),
        (["wait=abc"], Preferences()),
        (["wait=1.5"], Preferences()),
        (["wait=1_0"], Preferences()),
        (["wait=1 0"], Preferences()),
        (["wait=²"], Preferences()),
        (["wait=٣"], Preferences()),
        (['"wait=5"'], Preferences()),
        (["waiting=5"], Preferences()),
        # A comma inside quotes is no separator.
        (['x="a, wait=7", respond-async'], Preferences(True)),
        (['x="a\\", wait=7", wait=8'], Preferences(False, 8)),
        (['x="never closed, wait=7'], Preferences()),
        # Whatever it is, it is a number of seconds: who waits longer is cut short later.
        (["wait=999999999"], Preferences(False, 999_999_999)),
        (["wait=99999999999999999999"], Preferences(False, 10**9)),
        (["wait=" + "9" * 6000], Preferences(False, 10**9)),
        (["wait=" + "0" * 6000 + "7"], Preferences(False, 7)),
    ],
)
def test_prefer(headers: list[str], expected: Preferences) -> None:
    """RFC 7240, to the letter; nothing in this header is ever an error."""
    assert preferences(tuple(headers)) == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", [""]),
        ("a", ["a"]),
        (" a , b,,", ["a", "b", "", ""]),
        ('"a,b",c', ['"a,b"', "c"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        (r'"a\\",b', [r'"a\\"', "b"]),
        (r"a\,b", ["a\\", "b"]),
        ('"a,b', ['"a,b']),
    ],
)
def test_split(text: str, parts: list[str]) -> None:
    """Separators count outside quotes, where a backslash means nothing."""
    assert list(split(text, ",")) == parts


# Texts that look like these headers, and texts that look like nothing, lone surrogates included.
words = ["text/event-stream", "application/json", "*/*", "wait", "respond-async", "q", "9" * 5000]
pieces = st.sampled_from([*words, *'=;,"\\01. \t\udcff²/'])
headers = st.lists(pieces, max_size=12).map("".join) | st.text(st.characters(), max_size=30)


@given(headers, st.lists(headers, max_size=3))
def test_no_header_is_an_error(accept: str, prefer: list[str]) -> None:
    """Whatever the headers say, there is a way to answer, and a number of seconds if it waits."""
    wishes = preferences(tuple(prefer))
    mode = choose_mode(accept, wishes)

    assert wishes.wait is None or 0 <= wishes.wait <= 10**9
    assert mode is STREAM or (mode is WAIT) == (wishes.wait is not None)
    assert mode is not STREAM or "text/event-stream" in accept.lower()


weights = st.integers(0, 1000)


@given(weights, weights, st.booleans(), st.sampled_from(["", "wait=5", "respond-async"]))
def test_weights(stream: int, json: int, first: bool, prefer: str) -> None:
    """Of any two weights the larger wins, whichever comes first, and nothing wins with none."""
    parts = [f"text/event-stream;q={stream / 1000:.3f}", f"application/json;q={json / 1000:.3f}"]
    mode = mode_of(", ".join(parts if first else parts[::-1]), prefer)

    if stream == json:
        assert (mode is STREAM) == (stream > 0 and not prefer)
    else:
        assert (mode is STREAM) == (stream > json)
