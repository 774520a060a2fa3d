"""`python -m config.servers discard DIR` deletes a data directory; `keep` is the keeper's own entry."""

import sys
from pathlib import Path

from .discarding import discard
from .errors import ServerError


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    match arguments:
        case ["keep", data_dir, lease]:
            from .keeper import keep  # alone needs the database's driver, which `make clean` may not have

            return keep(Path(data_dir), int(lease))
        case ["discard", data_dir]:
            try:
                discard(Path(data_dir))
            except ServerError as error:
                sys.stderr.write(f"{error}\n")
                return 1
            return 0
    sys.stderr.write(f"{__doc__}\n")
    return 2


sys.exit(main(sys.argv[1:]))
