"""How the admin shows values."""

from datetime import UTC, datetime, timedelta

import pytest

from ingestion.admin import formats


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"), (0.04, "0.0 s"), (3.25, "3.2 s"), (9.99, "10.0 s"), (10, "10 s"), (59.4, "59 s"), (59.6, "1 min"),
        (60, "1 min"), (61, "1 min 01 s"), (3599, "59 min 59 s"), (3599.7, "1 h"), (3600, "1 h"), (3660, "1 h 01 min"),
        (360_000, "100 h"), (-5, "0.0 s"),
    ],
)  # fmt: skip
def test_a_duration_is_shown_in_the_two_units_that_matter(seconds, shown):
    assert formats.duration(timedelta(seconds=seconds)) == shown


def test_what_is_not_there_is_a_dash():
    assert formats.duration(None) == formats.moment(None) == formats.number(None) == formats.verbatim("") == "–"


def test_a_time_is_shown_to_the_second():
    shown = formats.moment(datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC))
    assert shown == '<time datetime="2026-03-04T05:06:07.890000+00:00">2026-03-04 05:06:07</time>'


def test_a_number_has_separators():
    assert [formats.number(n) for n in (0, 999, 1000, 12_345_678)] == ["0", "999", "1,000", "12,345,678"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("short", "short"),
        ("12345678", "12345678"),
        ("123456789", '<span title="123456789">1234567…</span>'),
        ("one\ntwo", '<span title="one\ntwo">one</span>'),
        ('"<b>"', '"<b>"'),
        ('"<b>"\n', '<span title="&quot;&lt;b&gt;&quot;\n">&quot;&lt;b&gt;&quot;</span>'),
    ],
)
def test_a_long_text_is_cut_to_its_first_line(text, shown):
    assert formats.short(text, 8) == shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"", ""),
        (b"plain", "plain"),
        (b"<&>\"'", "&lt;&amp;&gt;&quot;&#x27;"),
        ("caf\u00e9 \U0001f994".encode(), "caf\u00e9 \U0001f994"),
        (b"\na\tb\nc", "\na\tb\nc"),
        (b"\\x00", "\\x00"),
        (b"a\x00\x1b\rb", 'a<span class="escape">\\x00\\x1b\\r</span>b'),
        (b"\x80\xff", '<span class="escape">\\x80\\xff</span>'),
        ("a\u202eb".encode(), 'a<span class="escape">\\u202e</span>b'),
        ("\ue000".encode(), '<span class="escape">\\ue000</span>'),
        (b"\xed\xa0\x80", '<span class="escape">\\xed\\xa0\\x80</span>'),
        ("123456789\u00e9".encode(), '123456789<span class="escape">\\xc3</span>'),
    ],
)
def test_bytes_are_shown_with_what_cannot_be_read_marked(raw, shown):
    assert formats.raw_block(raw, limit=10) == f'<pre class="verbatim">\n{shown}</pre>'
