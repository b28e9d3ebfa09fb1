"""A person at the demo's page, in a real Chromium: `python -m tests.demo_page URL SCENE`.

A scene prints a line of JSON for each thing it sees. `shots=FOLDER` takes the pictures that the
README and the documentation show.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

# What a test machine lacks: a display, and an internet to talk to in the background.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Find the browser: what $CHROMIUM names, or one on the PATH."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def say(value: Any) -> None:
    """Tell the test."""
    print(json.dumps(value), flush=True)


def all_done(page: Page, count: int) -> None:
    """Wait until so many pictures are read."""
    page.wait_for_function(
        "count => document.querySelectorAll('li.succeeded').length === count", arg=count
    )


def upload(page: Page) -> None:
    """Choose a picture, get its text line by line, and its boxes; then a file that is none."""
    with urllib.request.urlopen(page.url + "samples/2.png") as response:
        picture = response.read()
    file = {"name": "sign.png", "mimeType": "image/png", "buffer": picture}
    page.evaluate(
        """() => new MutationObserver((changes) => {
          for (const { target, addedNodes } of changes) {
            if (target.localName === "pre") (window.texts ??= []).push(addedNodes[0].data);
          }
        }).observe(document.getElementById("jobs"), { childList: true, subtree: true })"""
    )
    page.set_input_files("#files", file)  # type: ignore[arg-type]
    all_done(page, 1)
    say(page.evaluate("window.texts"))
    say([page.locator("li pre").text_content(), page.locator("li polygon").count()])
    file = {"name": "words.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    page.set_input_files("#files", file)  # type: ignore[arg-type]
    page.wait_for_selector("li.failed")
    say(page.locator("li.failed .what").text_content())


def reload(page: Page) -> None:
    """Send the samples, reload while some wait, and find everything again."""
    for button in page.locator("#samples button").all():
        button.click()
    page.wait_for_selector("li.succeeded")
    page.wait_for_function("JSON.parse(sessionStorage.jobs ?? '[]').length === 4")
    page.reload()
    page.wait_for_selector("li.queued .place:has-text('No.')")
    say(page.locator("li").count())
    all_done(page, 4)
    page.wait_for_selector("#status:has-text('All done: 4 read')")
    say(page.locator("#status").text_content())


def cut(page: Page) -> None:
    """Send four pictures; the test cuts the network when it hears of it; nothing is lost."""
    files = []
    for number in (2, 3, 2, 3):
        with urllib.request.urlopen(f"{page.url}samples/{number}.png") as response:
            picture = response.read()
        files.append({"name": "sign.png", "mimeType": "image/png", "buffer": picture})
    page.set_input_files("#files", files)  # type: ignore[arg-type]
    page.wait_for_selector("li.succeeded")
    say("waiting")
    all_done(page, 4)
    say("done")


def stopped(page: Page) -> None:
    """Send a crowd; the test stops the server in order, and the page says so."""
    page.click("#crowd")
    page.wait_for_selector("li.succeeded")
    page.wait_for_function("document.querySelectorAll('li').length === 20")
    say("waiting")
    page.wait_for_selector("li.cancelled")
    say(page.locator("li.cancelled .what").first.text_content())


def killed(page: Page) -> None:
    """Send a crowd; the test kills the server and starts another, which knows none of it."""
    page.click("#crowd")
    page.wait_for_selector("li.succeeded")
    say("waiting")
    page.wait_for_selector("#status.bad")
    say("told")
    page.wait_for_selector("li.failed")
    say(page.locator("li.failed .what").first.text_content())
    page.wait_for_function("!document.querySelector('li.queued, li.running')")
    say("nothing spins")


def event_source(page: Page) -> None:
    """Follow a job that has ended with the browser's own EventSource, until it stops by itself."""
    page.click("#samples button")
    all_done(page, 1)
    say(
        page.evaluate(
            """() => new Promise((resolve) => {
              const { url } = JSON.parse(sessionStorage.jobs)[0];
              const source = new EventSource(`${url}/events`);
              let ends = 0;
              source.addEventListener("succeeded", () => ends++);
              source.onerror = () => source.readyState === EventSource.CLOSED && resolve(ends);
            })"""
        )
    )


def batches(page: Page) -> None:
    """On the other page, have the types of 64 files told, then each with a call of its own."""
    page.click("nav a:has-text('Batches')")
    for button in ("#samples", "#again"):
        page.click(button)
        page.wait_for_selector("#status:has-text('in line')")
        all_done(page, 64)
        page.wait_for_selector("#status:has-text('All done.')")
    types = """
        Object.fromEntries([...document.querySelectorAll("li")].map((li) =>
          [li.querySelector(".name span").textContent, li.querySelector(".type").textContent]))
    """
    say(page.evaluate(types))
    say(page.locator(".way p").all_text_contents())
    page.reload()
    page.wait_for_selector("#why")
    say([page.locator("li.succeeded").count(), *page.locator(".way b").all_text_contents()])


def shots(browser: Browser, url: str, folder: Path) -> None:
    """Take the pictures: wide and narrow, light and dark, waiting and done."""
    for size, width, height in (("wide", 1100, 900), ("narrow", 390, 760)):
        for scheme in ("light", "dark"):
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,  # type: ignore[arg-type]
            )
            page.set_default_timeout(120_000)
            page.goto(url)
            page.click("#samples button")
            all_done(page, 1)
            page.screenshot(path=folder / f"demo-{size}-{scheme}-done.png")
            page.click("#crowd")
            wait_and_freeze(page, "li.running .read ~ .read ~ .read ~ :not(.read)", after=4)
            if size == "narrow":
                page.evaluate("document.querySelector('#status').scrollIntoView()")
            page.screenshot(path=folder / f"demo-{size}-{scheme}-waiting.png")
            page.reload()
            all_done(page, 21)
            page.goto(f"{url}/batches")
            page.click("#samples")
            wait_and_freeze(page, "li.queued", after=40)
            page.screenshot(path=folder / f"batches-{size}-{scheme}-waiting.png")
            page.reload()
            all_done(page, 64)
            page.click("#again")
            page.wait_for_selector("#why")
            page.screenshot(path=folder / f"batches-{size}-{scheme}-done.png")
            page.close()


def wait_and_freeze(page: Page, selector: str, after: int) -> None:
    """Wait until so many are done and there is such an element, then stop the picture there."""
    page.wait_for_function(
        """([selector, after]) => {
          if (document.querySelectorAll("li.succeeded").length < after) return false;
          if (!document.querySelector(selector)) return false;
          // What the page changes from here on, it changes in what is no longer shown.
          const old = document.body;
          old.replaceWith(old.cloneNode(true));
          document.getElementById = (id) => old.querySelector(`#${id}`);
          return true;
        }""",
        arg=[selector, after],
    )


SCENES: dict[str, Callable[[Page], None]] = {
    scene.__name__: scene for scene in (upload, reload, cut, stopped, killed, event_source, batches)
}


def main(url: str, scene: str) -> None:
    """Open the page and play the scene."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        if scene.startswith("shots="):
            shots(browser, url, Path(scene.removeprefix("shots=")))
        else:
            page = browser.new_page()
            page.set_default_timeout(120_000)  # a picture takes a slow machine some seconds
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(error.message))
            page.goto(url + "/")
            page.wait_for_selector("#samples button")
            SCENES[scene](page)
            say({"errors": errors})
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
