"""A TCP proxy on loopback with bad manners: latency, slices, a limit, silence, cuts, resets, refusal."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

BLOCK = 64 * 1024


@dataclass(eq=False)
class _Pair:
    """One client's connection and the one to the server on its behalf."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    lose_replies: bool = False


@dataclass(kw_only=True)
class Manners:
    """What the proxy does to every block: wait, cut it into slices, and forward at most so many bytes a second."""

    latency: float = 0.0
    slice_bytes: int = BLOCK
    limit: float = float("inf")


@dataclass
class Proxy:
    """Forward connections to `target`, a path or a port of loopback. Runs in a thread; call `close` in the end."""

    target: str | int
    manners: Manners = field(default_factory=Manners)

    def __post_init__(self) -> None:
        self._pairs: set[_Pair] = set()
        self._refusing = False
        # Looks at what a client sends; True: the server gets it, and the client loses its connection before the reply.
        self._loses: Callable[[bytes], bool] | None = None
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        async def stop_listening() -> None:
            self._server.close()

        # In the loop's thread: the end of a connection looks at the same state.
        self._run(stop_listening())
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def freeze(self) -> None:
        """Forward nothing, in both directions; connections stay open."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        self._loop.call_soon_threadsafe(self._flowing.set)

    def cut(self) -> None:
        """Close every connection, as an orderly end."""
        self._end_all(resetting=False)

    def reset(self) -> None:
        """Close every connection with a reset."""
        self._end_all(resetting=True)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Reset every connection, and every new one at once."""
        self._refusing = True
        self.reset()
        try:
            yield
        finally:
            self._refusing = False

    def lose_reply_to(self, is_it: Callable[[bytes], bool]) -> None:
        """Forward the next block for which `is_it` holds, wait for its reply, and reset instead of giving it."""
        self._loses = is_it

    @property
    def has_lost(self) -> bool:
        return self._loses is None

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _end_all(self, *, resetting: bool) -> None:
        async def end() -> None:
            for pair in list(self._pairs):
                _end(pair, resetting=resetting)

        self._run(end())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self.target, str):
                server_reader, server = await asyncio.open_unix_connection(self.target)
            else:
                server_reader, server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _abort(writer)
            return
        pair = _Pair(writer, server)
        self._pairs.add(pair)
        if self._refusing:
            _end(pair, resetting=True)
        flows = [
            asyncio.create_task(self._pump(reader, server, pair, from_client=True)),
            asyncio.create_task(self._pump(server_reader, writer, pair, from_client=False)),
        ]
        await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
        _end(pair, resetting=pair.lose_replies)
        await asyncio.wait(flows)
        self._pairs.discard(pair)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair, *, from_client: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(self.manners.slice_bytes):
                await self._flowing.wait()
                if pair.lose_replies and not from_client:
                    return
                if from_client and self._loses is not None and self._loses(block):
                    self._loses, pair.lose_replies = None, True
                if pause := self.manners.latency + len(block) / self.manners.limit:
                    await asyncio.sleep(pause)
                writer.write(block)
                await writer.drain()


def _end(pair: _Pair, *, resetting: bool) -> None:
    for writer in (pair.client, pair.server):
        if resetting:
            _abort(writer)
        else:
            writer.close()


def _abort(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            # A linger of zero seconds: the close sends RST instead of FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
