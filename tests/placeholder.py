"""The real JSONPlaceholder server, from npm."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import ROOT, wait_until

NPM_MODULES = ROOT / ".data" / "npm" / "node_modules"


@contextmanager
def serve(folder: Path, corpora: Path) -> Iterator[str]:
    """Run the server with its files in a folder; yields its URL. Skips where it is not installed.

    The package ships an older edition of its data (other image hosts), so its copy here serves today's.
    """
    if not (NPM_MODULES / "jsonplaceholder").exists() or shutil.which("node") is None:
        pytest.skip("the npm package jsonplaceholder is not installed: run `make npm`")
    copy = folder / "jsonplaceholder"
    shutil.copytree(NPM_MODULES / "jsonplaceholder", copy)
    shutil.copy(corpora / "jsonplaceholder.json", copy / "data.json")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "npm.log").open("wb") as log:
        server = subprocess.Popen(
            ["node", str(copy / "index.js")],
            env=os.environ | {"PORT": str(port), "NODE_PATH": str(NPM_MODULES)},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _answers(port), what="JSONPlaceholder's start")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
