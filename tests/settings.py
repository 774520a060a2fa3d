"""The project's settings, with a data directory of the tests' own: their servers are not the developer's."""

import os
from pathlib import Path

# Before the settings are read: they ask the embedded servers for their addresses.
os.environ.setdefault("DATA_DIR", str(Path(__file__).resolve().parent.parent / ".data" / "tests"))
os.environ["PHOTOS_API_URL"] = ""

from config.settings import *  # noqa: F403 - the whole point
