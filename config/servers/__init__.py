"""PostgreSQL and a Redis-compatible server out of the virtual environment, for checkouts that configure none.

`addresses` tells where they listen, `ensure` makes them run and holds them for this process. No module in here knows
Django, so that the settings can import them.
"""

from .addresses import Addresses, addresses
from .discarding import discard
from .errors import ServerError
from .leases import Lease, ensure

__all__ = ["Addresses", "Lease", "ServerError", "addresses", "discard", "ensure"]
