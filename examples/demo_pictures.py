"""Pictures to try the demo with, drawn here, and what can be said of one without a model."""

import struct
from functools import lru_cache
from io import BytesIO
from typing import Any

import aioqueue

try:
    from PIL import Image, ImageDraw, ImageFont
except ImportError:
    Image = None

PICTURES = {
    "Receipt": (
        "#fbfaf6",
        "#222222",
        ["CORNER BAKERY", "2 Croissant   5.80", "1 Espresso   2.40", "TOTAL   8.20", "THANK YOU"],
    ),
    "Sign": ("#14532d", "#ffffff", ["HARBOUR", "Ferry 300 m", "Old Town 1.2 km"]),
    "Note": ("#fff3bf", "#3b2f0b", ["Dear Ann,", "the train left on time.", "See you at nine."]),
    "Board": (
        "#12263f",
        "#ffd866",
        [
            "DEPARTURES",
            "08:05  Harbour",
            "08:12  Old Town",
            "08:20  Airport",
            "08:31  University",
            "08:40  Lake Side",
            "08:44  Mill Road",
        ],
    ),
}
NAMES = list(PICTURES) if Image else []


@lru_cache
def draw(number: int) -> bytes:
    """Draw one of the pictures, as PNG."""
    paper, ink, lines = PICTURES[NAMES[number - 1]]
    picture = Image.new("RGB", (640, 120 + 72 * len(lines)), paper)
    pen = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        font = ImageFont.load_default(size=46 if row == 0 else 36)
        pen.text((60, 60 + 72 * row), line, fill=ink, font=font)
    data = BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def describe(image: bytes) -> list[dict[str, Any]]:
    """Say how large a picture is, from its first bytes: what is done where no model runs."""
    if image.startswith(b"\x89PNG\r\n\x1a\n") and len(image) > 24:
        kind, (width, height) = "PNG", struct.unpack(">II", image[16:24])
    elif image.startswith(b"\xff\xd8"):
        kind, (width, height) = "JPEG", jpeg_size(image)
    else:
        raise aioqueue.JobError("Without its model the demo knows PNG and JPEG only.", status=422)
    lines = [f"{kind}, {width} × {height} pixels", f"{len(image):,} bytes"]
    found = {"width": width, "height": height, "boxes": []}
    return [found, *({"text": line, "score": 1, "box": None} for line in lines)]


def jpeg_size(image: bytes) -> tuple[int, int]:
    """Look for the frame's header (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 < len(image) and image[at] == 0xFF:
        marker, length = image[at + 1], int.from_bytes(image[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", image[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise aioqueue.JobError("This JPEG has no size.", status=422)
