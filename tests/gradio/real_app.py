"""An app as Gradio's users write it: `python real_app.py`, where Gradio is installed.

`queued_app.py` is the same app without Gradio. PORT says where it listens, MAX_SIZE how many jobs
may wait, of all functions together.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import gradio as gr


def add(a: float, b: float = 2) -> float:
    """Add two numbers."""
    return a + b


def greet(name: str, loud: bool = False) -> str:
    """Greet somebody."""
    greeting = f"Hello, {name}!"
    return greeting.upper() if loud else greeting


def divide(number: int, by: int) -> tuple[int, int]:
    """Divide, with a remainder."""
    return divmod(number, by)


def nothing() -> None:
    """Do nothing."""


def echo_json(value: dict) -> dict:
    """Give a value back."""
    return value


def choose(colour: Literal["red", "green"]) -> str:
    """Choose one of two colours."""
    return f"You chose {colour}."


def half(number: int) -> float:
    """Halve a whole number."""
    return number / 2


def is_whole(number):
    """Say what `half` accepts."""
    return gr.validate(number == int(number), f"must be a whole number, not {number}")


def spell(word: str) -> Iterator[str]:
    """Spell a word, letter by letter."""
    for end in range(1, len(word) + 1):
        yield word[:end]


def grow() -> Iterator[dict]:
    """Change a value step by step, in all ways that a value can change."""
    yield {"items": [0], "n": 0}
    yield {"items": [0, 1], "n": 1}
    yield {"items": [1], "n": 1, "words": {"last": "he"}}
    yield {"items": [1], "n": 1, "words": {"last": "hello", "all": [None, True]}}
    yield {"items": [1], "n": 1, "words": {"last": "hello", "all": [None, True]}}
    yield {"items": "none"}


def broken(message: str) -> str:
    """Fail, with words for the caller."""
    raise gr.Error(message)


def broken_midway() -> Iterator[int]:
    """Fail after two values."""
    yield 1
    yield 2
    raise gr.Error("The third is missing.")


def notes() -> str:
    """Say something on the way."""
    gr.Info("The picture is small.")
    gr.Warning("The picture is dark.")
    return "done"


def steps(count: int, progress=gr.Progress()) -> str:  # noqa: B008  (Gradio's own way)
    """Work in steps."""
    for step in range(count):
        progress((step, count), desc=f"step {step}")
        time.sleep(0.3)
    return "done"


running = 0


async def crowded(number: int) -> str:
    """Tell how many of these run at once."""
    global running
    running += 1
    at_once = running
    await asyncio.sleep(0.02)
    running -= 1
    return f"{number}/{at_once}"


async def slow(seconds: float) -> str:
    """Hold up all that goes through the gate for some time."""
    await asyncio.sleep(seconds)
    return f"waited {seconds} s"


gate = asyncio.Event()


async def hold() -> str:
    """Hold it up until somebody calls `release`."""
    gate.clear()
    await gate.wait()
    return "released"


async def go_through(name: str) -> str:
    """Go through the gate, where two may wait."""
    return f"{name} went through"


async def release() -> None:
    """Let the one that holds up the others end."""
    gate.set()


def lengths(words: list[str]) -> list[str]:
    """Measure words, all that wait at once."""
    return [[f"{word}: {len(word)}, {len(words)} at once" for word in words]]


def shout(file: str) -> str:
    """Make a text file loud."""
    source = Path(file)
    loud = source.with_name("loud.txt")
    loud.write_text(source.read_text().upper())
    return str(loud)


def join_files(files: list[str]) -> str:
    """Put text files together."""
    return "".join(Path(file).read_text() for file in files)


def wave() -> str:
    """Have another name for clients."""
    return "o/"


def secret() -> str:
    """Be no business of theirs."""
    return "You should not have seen this."


def offer(function, inputs=None, outputs=None, **options):
    """Let clients call a function; what they send and get is checked by components."""
    gr.Button().click(function, inputs, outputs, **options)


def number(label="output", **options):
    """A component for a number."""
    return gr.Number(label=label, **options)


def text(label="output"):
    """A component for a text."""
    return gr.Textbox(label=label)


with gr.Blocks(analytics_enabled=False) as app:
    offer(add, [number("a"), number("b", value=2)], number())
    offer(greet, [text("name"), gr.Checkbox(label="loud")], text())
    offer(
        divide,
        [number("number", precision=0), number("by", precision=0)],
        [number("output 0", precision=0), number("output 1", precision=0)],
    )
    offer(nothing)
    offer(echo_json, gr.JSON(label="value"), gr.JSON(label="output"))
    offer(choose, gr.Radio(["red", "green"], label="colour"), text())
    offer(half, number("number"), number(), validator=is_whole)
    offer(spell, text("word"), text())
    offer(grow, None, gr.JSON(label="output"))
    offer(broken, text("message"), text())
    offer(broken_midway, None, number(precision=0))
    offer(notes, None, text())
    offer(steps, number("count", precision=0), text())
    offer(crowded, number("number", precision=0), text(), concurrency_limit=3)
    offer(slow, number("seconds"), text(), concurrency_id="gate")
    offer(hold, None, text(), concurrency_id="gate")
    offer(go_through, text("name"), text(), concurrency_id="gate")
    offer(release)
    offer(lengths, text("words"), text(), batch=True, max_batch_size=4, concurrency_id="gate")
    offer(shout, gr.File(label="file"), gr.File(label="output"))
    offer(join_files, gr.File(label="files", file_count="multiple"), text())
    offer(wave, None, text(), api_name="hello")
    offer(secret, None, text(), api_visibility="private")

if __name__ == "__main__":
    app.queue(max_size=int(os.environ.get("MAX_SIZE", "0")) or None)
    app.launch(
        server_name="127.0.0.1",
        server_port=int(os.environ["PORT"]),
        quiet=True,
        share=False,
        ssr_mode=False,
    )
