"""A reader of the documents: types their commands at a terminal, in a fresh copy of the project, after `make up`."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from config import servers
from tests.docs.documents import Block, Command
from tests.processes import ROOT, running_stack, wait_until

# What a clone would not have.
NOT_CLONED = (".git", ".venv", ".data", ".env", "__pycache__", "*_cache", "node_modules")
SECONDS = 120

# What differs from run to run.
VARYING = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?", "<time>"),
    (r"\bin \d+(\.\d+)? s\b", "in <seconds> s"),
    (r'"seconds": \d+(\.\d+)?', '"seconds": <seconds>'),
    (r'(\brun|"run":) \d+', r"\1 <run>"),
)


@contextlib.contextmanager
def fresh_checkout(folder: Path) -> Iterator[Path]:
    """Give a copy of the project in the state `make up` brings it to: servers, worker, sample API, one sync."""
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*NOT_CLONED))
    (checkout / ".venv").symlink_to(sys.prefix)
    data_dir = checkout / ".data"
    port = servers.addresses(data_dir).sample_api_port
    try:
        with running_stack(data_dir) as stack:
            stack.start("api", "photos.sample_api", "--port", str(port))
            wait_until(lambda: "listening" in stack.text("api"), what="the sample API's start")
            stack.start_worker()
            assert stack.summary("trigger", "photos", "--wait", "--json")["state"] == "succeeded"
            yield checkout
    finally:
        servers.discard(data_dir)


class Reader:
    """One reader with a terminal of their own: what they export stays for their next commands."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        (checkout / ".env").unlink(missing_ok=True)  # another document's reader may have made it
        self._environment = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        self._environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PWD": str(checkout)}

    def type(self, command: Command) -> None:
        """Run a command; it has to end with status 0, and to print what the document shows."""
        after = self.checkout / ".data" / "environment-after"
        done = subprocess.run(
            ["bash", "-c", f"{command.text}\nstatus=$?\nenv -0 > '{after}'\nexit $status"],
            cwd=self._environment["PWD"], env=self._environment, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        about = f"{command.where}: {command.text}"
        assert done.returncode == 0, f"{about}\nended with status {done.returncode}:\n{done.stdout}"
        if command.shown is not None:
            assert is_as_shown(done.stdout, command.shown), f"{about}\nprinted:\n{done.stdout}\nnot:\n{command.shown}"
        variables = [text.partition("=") for text in after.read_text().split("\0") if text]
        self._environment = {name: value for name, _, value in variables}

    def save(self, block: Block) -> None:
        """Write a file of the reader's own, or compare with the project's."""
        assert block.file, f"{block.where}: the first line does not name the file"
        path = self.checkout / block.file
        _, _, content = block.text.partition("\n")
        if block.file.startswith("../"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.lstrip("\n"))
        else:
            assert path.read_text() == content, f"{block.where} is not what {block.file} holds"


def is_as_shown(printed: str, shown: str) -> bool:
    """Whether the output is what a document shows; `…` stands for part of a line, and alone for any lines."""
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in _lines(shown)
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(printed))) is not None


def _lines(text: str) -> list[str]:
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return [line.rstrip() for line in text.strip().splitlines()]
