"""The demo behind ``make demo``: text read from pictures, one at a time, and a page to watch it."""

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any

import demo_pictures
from aiohttp import web

import aioqueue

PAGE = Path(__file__).with_name("demo.html")

try:
    import cv2
    import numpy
    import onnxruntime  # noqa: F401
    from rapidocr import RapidOCR
except ImportError as error:
    RapidOCR = None
    missing = str(error)


@aioqueue.queued(concurrency_limit=1, max_size=200, max_body_size=20_000_000)
def read_text(image: bytes, job: aioqueue.Job = aioqueue.JOB) -> dict[str, Any]:
    """Find the lines of text in a picture, and where they are."""
    if RapidOCR is None:
        time.sleep(1)  # as long as the model takes
        return demo_pictures.describe(image)
    pixels = pixels_of(image)
    job.raise_if_cancelled()
    found = job.app[MODEL](pixels)
    height, width = pixels.shape[:2]
    lines = [] if found.txts is None else zip(found.txts, found.scores, found.boxes, strict=True)
    return {
        "width": width,
        "height": height,
        "lines": [
            {"text": text, "score": round(float(score), 3), "box": box.round().tolist()}
            for text, score, box in lines
        ],
    }


MODEL: web.AppKey[Any] = web.AppKey("model")


def pixels_of(image: bytes) -> Any:
    """Decode a picture; what is none, or larger than a picture can be, is the sender's mistake."""
    with contextlib.suppress(cv2.error):
        pixels = cv2.imdecode(numpy.frombuffer(image, numpy.uint8), cv2.IMREAD_COLOR)
        if pixels is not None:
            return pixels
    raise aioqueue.JobError("This is no picture that can be read.", status=422)


async def load_model(app: web.Application) -> None:
    """Load the model and let it read once: the first picture takes longest."""
    if RapidOCR is None:
        print(f"Pictures are described here instead of read: {missing}.", flush=True)
        return
    print("Loading the model ...", flush=True)
    start = time.monotonic()
    app[MODEL] = await asyncio.to_thread(warm_model)
    print(f"The model is warm after {time.monotonic() - start:.1f} s.", flush=True)


def warm_model() -> Any:
    """Make the model; one core for it, so that the page stays quick."""
    threads = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
    model = RapidOCR(
        params={f"EngineConfig.onnxruntime.{name}": value for name, value in threads.items()}
        | {"Global.log_level": "warning"}
    )
    model(cv2.imdecode(numpy.frombuffer(demo_pictures.draw(1), numpy.uint8), cv2.IMREAD_COLOR))
    return model


async def page(request: web.Request) -> web.FileResponse:
    """Show the page."""
    return web.FileResponse(PAGE, headers={"Referrer-Policy": "no-referrer"})


async def about(request: web.Request) -> web.Response:
    """Tell the page what it can promise."""
    return web.json_response({"reads": RapidOCR is not None, "samples": demo_pictures.NAMES})


async def sample(request: web.Request) -> web.Response:
    """Draw a picture to try."""
    number = int(request.match_info["number"])
    if not 1 <= number <= len(demo_pictures.NAMES):
        raise web.HTTPNotFound
    return web.Response(body=demo_pictures.draw(number), content_type="image/png")


app = web.Application()
app.add_routes(
    [
        web.get("/", page),
        web.get("/about", about),
        web.get(r"/samples/{number:\d+}.png", sample),
        web.post("/ocr", read_text),
    ]
)
app.on_startup.append(load_model)
aioqueue.setup(app)

if __name__ == "__main__":
    logging.getLogger("RapidOCR").setLevel(logging.WARNING)
    port = int(os.environ.get("PORT", "8080"))
    hint = f"Open http://localhost:{port} in two or three tabs, and drop a picture on each."
    host = os.environ.get("HOST", "localhost")
    aioqueue.run_app(app, host=host, port=port, print=lambda _: print(hint, flush=True))
