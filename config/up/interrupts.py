"""Ctrl-C, SIGTERM and SIGHUP as one exception that never comes while something is half done."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Raises KeyboardInterrupt in the main thread for each of the signals, except where they are held."""

    def __init__(self) -> None:
        self.count = 0
        self._holders = 0

    def install(self) -> None:
        """Handle the signals from now on, also where a shell made a background process ignore them."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if not self._holders:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Only count the signals from now on: what follows must come to its end."""
        self._holders += 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put off an interrupt until the block's end."""
        before = self.count
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
        if self.count > before and not self._holders:
            raise KeyboardInterrupt
