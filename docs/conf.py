"""How Sphinx builds these pages: ``python -m sphinx -W -q -b html docs docs/_build``."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import _settings_table  # noqa: E402

project = "aioqueue"
extensions = ["myst_parser"]
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = "aioqueue"
myst_heading_anchors = 3
pygments_style = "sphinx"


def setup(app):  # type: ignore[no-untyped-def]
    """Write the tables before the pages that include them are read."""
    app.connect("builder-inited", lambda app: _settings_table.write(HERE / "_generated"))
