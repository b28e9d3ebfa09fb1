"""The demo behind ``make demo``: text read from pictures, one at a time, and a page to watch it."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import demo_batches
import demo_pictures
from aiohttp import web

import aioqueue

HERE = Path(__file__).parent
FILES = {"/": "demo.html", "/batches": "batches.html", "/demo.css": "demo.css"}

try:
    import cv2
    import numpy
    import onnxruntime  # noqa: F401
    from rapidocr import RapidOCR
    from rapidocr.main import RapidOCRError
    from rapidocr.utils.process_img import map_boxes_to_original
except ImportError as error:
    RapidOCR = None
    missing = str(error)


@aioqueue.queued(executor="process", concurrency_limit=1, max_size=200, max_body_size=20_000_000)
def read_text(image: bytes, job: aioqueue.Job = aioqueue.JOB) -> Iterator[dict[str, Any]]:
    """Find where the text of a picture is, then read it line by line."""
    if RapidOCR is None:
        found, *lines = demo_pictures.describe(image)
        yield found
        for number, line in enumerate(lines):
            job.progress(number, len(lines), "describing")
            time.sleep(0.5)  # together as long as the model takes
            yield line
        return
    pixels = pixels_of(image)
    height, width = pixels.shape[:2]
    model = warm_model()
    job.progress(0, message="finding the text")
    boxes, pieces = find_lines(model, pixels)
    yield {"width": width, "height": height, "boxes": boxes}
    for number, (box, piece) in enumerate(zip(boxes, pieces, strict=True)):
        job.progress(number, len(boxes), "reading")
        text, score = read_line(model, piece)
        if text.strip() and score >= model.text_score:
            yield {"text": text, "score": round(score, 3), "box": box}


def find_lines(model: Any, pixels: Any) -> tuple[list[Any], list[Any]]:
    """Where the lines are, from top to bottom, and a piece of the picture for each."""
    smaller, steps = model.preprocess_img(pixels)
    try:
        pieces, found = model.detect_and_crop(smaller, steps)
    except RapidOCRError:  # there are none
        return [], []
    return map_boxes_to_original(found.boxes, steps, *pixels.shape[:2]).round().tolist(), pieces


def read_line(model: Any, piece: Any) -> tuple[str, float]:
    """Turn a piece the right way up, and read it."""
    upright, _ = model.cls_and_rotate([piece])
    read = model.recognize_txt(upright)
    return read.txts[0], float(read.scores[0])


def pixels_of(image: bytes) -> Any:
    """Decode a picture; what is none, or larger than a picture can be, is the sender's mistake."""
    with contextlib.suppress(cv2.error):
        pixels = cv2.imdecode(numpy.frombuffer(image, numpy.uint8), cv2.IMREAD_COLOR)
        if pixels is not None:
            return pixels
    raise aioqueue.JobError("This is no picture that can be read.", status=422)


def load_model() -> None:
    """Load the model, as the first thing that a process does; its jobs find it there."""
    if RapidOCR is not None:
        start = time.monotonic()
        warm_model()
        print(f"The model is warm after {time.monotonic() - start:.1f} s.", flush=True)


@cache
def warm_model() -> Any:
    """Make the model, and let it read once: the first picture takes longest.  It gets one core."""
    threads = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
    model = RapidOCR(
        params={f"EngineConfig.onnxruntime.{name}": value for name, value in threads.items()}
        # A large picture is made smaller before its text is looked for, a small one not larger:
        # that takes a third of the time, and is read better.
        | {"Det.limit_type": "max", "Det.limit_side_len": 960}
        | {"Global.log_level": "warning"}
    )
    model(cv2.imdecode(numpy.frombuffer(demo_pictures.draw(1), numpy.uint8), cv2.IMREAD_COLOR))
    return model


async def page(request: web.Request) -> web.FileResponse:
    """Show one of the pages."""
    headers = {"Referrer-Policy": "no-referrer"}
    return web.FileResponse(HERE / FILES[request.path], headers=headers)


async def about(request: web.Request) -> web.Response:
    """Tell the pages what they can promise."""
    return web.json_response(
        {
            "reads": RapidOCR is not None,
            "samples": demo_pictures.NAMES,
            "knows_types": demo_batches.Magika is not None,
        }
    )


async def sample(request: web.Request) -> web.Response:
    """Draw a picture to try."""
    number = int(request.match_info["number"])
    if not 1 <= number <= len(demo_pictures.NAMES):
        raise web.HTTPNotFound
    return web.Response(body=demo_pictures.draw(number), content_type="image/png")


app = web.Application()
app.add_routes(
    [
        *(web.get(path, page) for path in FILES),
        web.get("/about", about),
        web.get(r"/samples/{number:\d+}.png", sample),
        web.post("/ocr", read_text),
        web.post("/types", demo_batches.what_is_it),
        web.post("/types/singly", demo_batches.one_at_a_time),
    ]
)
app.on_startup.append(demo_batches.load_model)
aioqueue.setup(app, process_initializer=load_model)

if __name__ == "__main__":
    logging.getLogger("RapidOCR").setLevel(logging.WARNING)
    if RapidOCR is None:
        print(f"Pictures are described here instead of read: {missing}.", flush=True)
    else:
        print("Loading the model ...", flush=True)
    port = int(os.environ.get("PORT", "8080"))
    hint = f"Open http://localhost:{port} in two or three tabs, and drop a picture on each."
    host = os.environ.get("HOST", "localhost")
    aioqueue.run_app(app, host=host, port=port, print=lambda _: print(hint, flush=True))
