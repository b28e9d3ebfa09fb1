"""The slow function of the viral minute, the same for every peer: it sleeps and counts itself."""

import threading
import time

SECONDS = 0.01
LIMIT = 8

calls = 0
peak_running = 0
_running = 0
_lock = threading.Lock()


def sleep() -> str:
    """Sleep as long as a very fast model would run; keep count of how many do so at once."""
    global calls, peak_running, _running
    with _lock:
        calls += 1
        _running += 1
        peak_running = max(peak_running, _running)
    try:
        time.sleep(SECONDS)
    finally:
        with _lock:
            _running -= 1
    return "done"
