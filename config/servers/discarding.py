"""Removes a data directory with everything that belongs to it elsewhere."""

import shutil
import signal
from pathlib import Path

from .addresses import addresses
from .errors import ServerError
from .leases import is_kept
from .placement import remove_linked
from .processes import stop_strays
from .programs import POSTGRES_NAMES, REDIS_NAMES


def discard(data_dir: Path) -> None:
    """Delete the data directory, the database in it, and what was put into other places for it.

    Raises:
        ServerError: its servers are in use.
    """
    data_dir = data_dir.resolve()
    if not data_dir.is_dir():
        return
    socket_dir = Path(addresses(data_dir).socket_dir)
    if is_kept(data_dir):
        raise ServerError(f"The servers of {data_dir} are running: stop what uses them first (Ctrl-C in `make up`).")
    stop_strays(data_dir / "valkey", REDIS_NAMES, signal.SIGKILL)
    for link in data_dir.glob("postgres-*"):
        stop_strays(link, POSTGRES_NAMES, signal.SIGKILL)
        remove_linked(link)
    shutil.rmtree(socket_dir, ignore_errors=True)
    shutil.rmtree(data_dir)
