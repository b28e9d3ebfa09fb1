"""The bytes of arguments: JSON by itself, or a head with files behind it, and never mistaken."""

from __future__ import annotations

import pytest

from aioqueue import Refused, _payload
from aioqueue._payload import pack, unpack

pytestmark = pytest.mark.one_loop


def test_no_head_looks_like_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head whose length would begin with a brace is refused: its payload would pass for JSON."""
    assert (_payload._TOO_LONG - 1).to_bytes(4, "big")[:1] < b"{"
    assert _payload._TOO_LONG.to_bytes(4, "big") == b"{\0\0\0"
    monkeypatch.setattr(_payload, "_TOO_LONG", 100)
    empty = len(pack(b"{}", {"text": ""}, {})) - 4
    packed = pack(b"{}", {"text": "x" * (99 - empty)}, {})
    assert int.from_bytes(packed[:4], "big") == 99
    assert unpack(packed) == ({}, {"text": "x" * (99 - empty)}, {})
    with pytest.raises(Refused, match="The arguments may have 100 bytes beside") as refused:
        pack(b"{}", {"text": "x" * (100 - empty)}, {})
    assert refused.value.problem.code == "payload_too_large"
    assert unpack(pack(b"{}", {}, {"file": b"x" * 200})) == ({}, {}, {"file": b"x" * 200})
    assert len(pack(b'{"a":"%b"}' % (b"x" * 200), {}, {})) == 208
