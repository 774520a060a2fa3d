"""Make the records of the sample API: photos and albums that depend on their id alone.

Standard library only and no Django: the sample API starts before the project is configured.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

PHOTOS = 5_000  # as many as JSONPlaceholder has
PHOTOS_PER_ALBUM = 50
ALBUMS_PER_USER = 10
BLOCK_RECORDS = 1_000  # written at a time, about 210 kB

WORDS = (  # noqa: SIM905 (one literal a word would take a page)
    "accusamus accusantium ad adipisci alias aliquam aliquid amet aperiam architecto asperiores aspernatur atque "
    "aut autem beatae blanditiis commodi consectetur consequatur consequuntur corporis corrupti culpa cum cumque "
    "cupiditate debitis delectus deleniti deserunt dicta dignissimos distinctio dolor dolore dolorem doloremque "
    "dolores dolorum ducimus ea eaque earum eius eligendi enim eos error esse est et eum eveniet ex excepturi "
    "exercitationem expedita explicabo facere facilis fuga fugiat fugit harum hic id illo illum impedit in incidunt "
    "inventore ipsa ipsam ipsum iste itaque iure iusto labore laboriosam laborum laudantium libero magnam magni "
    "maiores maxime minima minus modi molestiae molestias mollitia nam natus necessitatibus nemo neque nesciunt "
    "nihil nisi nobis non nostrum nulla numquam occaecati odio odit officia officiis omnis optio pariatur "
    "perferendis perspiciatis placeat porro possimus praesentium provident quae quaerat quam quas quasi qui quia "
    "quibusdam quidem quis quisquam quo quod quos ratione recusandae reiciendis rem repellat repellendus "
    "reprehenderit repudiandae rerum saepe sapiente sed sequi similique sint sit soluta sunt suscipit tempora "
    "tempore tenetur totam ullam unde ut vel velit veniam veritatis vero vitae voluptas voluptate voluptatem "
    "voluptates voluptatibus voluptatum"
).split()

_MASK = (1 << 64) - 1


def _scatter(number: int) -> int:
    """Return 64 bits that look random and depend on the number alone (two of SplitMix64's mixing steps)."""
    bits = number * 0x9E3779B97F4A7C15 & _MASK
    return (bits ^ bits >> 32) * 0xBF58476D1CE4E5B9 & _MASK


def _phrase(number: int) -> str:
    """Return one to four words that depend on the number alone."""
    bits = _scatter(number)
    return " ".join(WORDS[(bits >> (8 * place + 8)) % len(WORDS)] for place in range(1 + bits % 4))


# Titles are joined out of two ready phrases: composing them word by word took most of the time of a page.
_PHRASES = tuple(_phrase(number) for number in range(1 << 12))


def _title_and_color(number: int) -> tuple[str, str]:
    bits = _scatter(number)
    return f"{_PHRASES[bits & 0xFFF]} {_PHRASES[bits >> 12 & 0xFFF]}", f"{bits >> 40:06x}"


def photo(id: int) -> dict[str, object]:  # noqa: A002 (the record's own word)
    """Make the photo with this id, which alone decides every field."""
    title, color = _title_and_color(id)
    return {
        "albumId": (id - 1) // PHOTOS_PER_ALBUM + 1,
        "id": id,
        "title": title,
        "url": f"https://via.placeholder.com/600/{color}",
        "thumbnailUrl": f"https://via.placeholder.com/150/{color}",
    }


def album(id: int) -> dict[str, object]:  # noqa: A002 (the record's own word)
    """Make the album with this id, which alone decides every field."""
    title, _ = _title_and_color(-id)
    return {"userId": (id - 1) // ALBUMS_PER_USER + 1, "id": id, "title": title}


def _photo_text(photo_id: int) -> str:
    """Write the photo as `json.dumps(…, indent=2)` does inside a list, 8 times as fast: nothing needs escaping."""
    title, color = _title_and_color(photo_id)
    return (
        f'  {{\n    "albumId": {(photo_id - 1) // PHOTOS_PER_ALBUM + 1},\n    "id": {photo_id},\n'
        f'    "title": "{title}",\n    "url": "https://via.placeholder.com/600/{color}",\n'
        f'    "thumbnailUrl": "https://via.placeholder.com/150/{color}"\n  }}'
    )


def _album_text(album_id: int) -> str:
    text = json.dumps(album(album_id), indent=2)
    return "  " + text.replace("\n", "\n  ")


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A numbered collection: its records have the ids from 1 to `total`."""

    total: int
    record: Callable[[int], dict[str, object]]
    text: Callable[[int], str]

    def write_list(self, ids: range) -> bytes:
        """Write these records as one JSON array, laid out as json-server does."""
        if not ids:
            return b"[]"
        return b"".join(self.stream_list(ids))

    def stream_list(self, ids: range) -> Iterator[bytes]:
        """Write these records (at least one) as one JSON array, in blocks; holds one block."""
        opening = "[\n"
        for start in range(0, len(ids), BLOCK_RECORDS):
            yield (opening + ",\n".join(map(self.text, ids[start : start + BLOCK_RECORDS]))).encode()
            opening = ",\n"
        yield b"\n]"


def collections(photos: int) -> dict[str, Collection]:
    """Make the collections that the server offers, by path, for this number of photos."""
    return {
        "/photos": Collection(total=photos, record=photo, text=_photo_text),
        "/albums": Collection(total=ceil(photos / PHOTOS_PER_ALBUM), record=album, text=_album_text),
    }
