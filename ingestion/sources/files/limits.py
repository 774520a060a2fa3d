"""What files may cost."""

from dataclasses import dataclass
from typing import Final

MEBIBYTE: Final = 1024 * 1024
GIBIBYTE: Final = 1024 * MEBIBYTE


@dataclass(frozen=True, kw_only=True)
class FileLimits:
    """What one listing, one file and one record may cost.

    Args:
        files: in one listing; it is held in memory.
        file_bytes: of one file as it is stored; a zip or Excel file takes as much space for temporary files.
        decoded_bytes: of one file, decompressed.
        ratio: decompressed to compressed size; looked at from a few MiB on.
        record_bytes: of one record's text; it is held in memory.
        members: of one zip file, those that are not read included.
    """

    files: int = 100_000
    file_bytes: int = 100 * GIBIBYTE
    decoded_bytes: int = 1024 * GIBIBYTE
    ratio: float = 250
    record_bytes: int = 64 * MEBIBYTE
    members: int = 1_000
