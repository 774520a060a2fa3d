"""StringIteratorIO: any way of reading gives the same text, lazily, and nothing passes for the end but the end."""

import io
import itertools
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.streams import StreamBroken, StringIteratorIO

strings = st.lists(st.text(alphabet="ab\n\r\t\\é😀", max_size=6), max_size=20)
# One call each: ("read" or "readline", size).
calls = st.lists(st.tuples(st.sampled_from(["read", "readline"]), st.none() | st.integers(-2, 9)), max_size=40)


def stream(*parts):
    return StringIteratorIO(iter(parts))


@given(strings, calls)
def test_any_sequence_of_reads_gives_what_a_stringio_gives(parts, calls):
    ours, reference = stream(*parts), io.StringIO("".join(parts), newline="\n")
    for name, size in calls:
        assert getattr(ours, name)(size) == getattr(reference, name)(size)
    assert ours.read() == reference.read()
    assert ours.read() == ours.read(5) == ours.readline() == ""


@given(strings, st.integers(1, 7))
def test_reads_in_blocks_of_any_size_give_the_whole_text(parts, size):
    ours = stream(*parts)
    blocks = list(iter(lambda: ours.read(size), ""))
    assert "".join(blocks) == "".join(parts)
    assert all(len(block) == size for block in blocks[:-1])


@given(strings)
def test_lines_are_those_of_the_whole_text(parts):
    assert list(stream(*parts)) == io.StringIO("".join(parts), newline="\n").readlines()


def test_empty_strings_never_end_it_early():
    ours = stream("", "", "a", "", "", "b\n", "", "c", "")
    assert [ours.read(1) for _ in range(5)] == ["a", "b", "\n", "c", ""]
    ours = stream("", "a", "", "\n", "", "b")
    assert [ours.readline() for _ in range(3)] == ["a\n", "b", ""]


def test_a_line_ends_at_newlines_alone():
    assert list(stream("a\rb\x0bc\x0cd\x85e\u2028f\r\ng")) == ["a\rb\x0bc\x0cd\x85e\u2028f\r\n", "g"]


def test_size_zero_reads_nothing_and_takes_nothing():
    ours = StringIteratorIO(iter_failing_at_once())
    assert (ours.read(0), ours.readline(0)) == ("", "")
    assert ours.error is None


def iter_failing_at_once():
    raise ValueError("the row")
    yield ""


def test_takes_from_an_endless_iterator_only_what_one_read_asks_for():
    taken = itertools.count()
    ours = StringIteratorIO(f"{number:03}\n" for number in taken)
    assert ours.read(10) == "000\n001\n00"
    assert next(taken) == 3
    assert ours.readline() == "2\n"
    assert next(taken) == 4
    assert ours.readline() == "005\n"  # 003 and 004 were taken by this test


def test_holds_one_string_beyond_what_was_read():
    alive = 0

    class Text(str):
        __slots__ = ()

        def __del__(self):
            nonlocal alive
            alive -= 1

    def texts():
        nonlocal alive
        for _ in range(1000):
            alive += 1
            yield Text("x" * 100)

    ours = StringIteratorIO(texts())
    most = 0
    while ours.read(1000):
        most = max(most, alive)
    # The one being read, and the generator's own.
    assert most <= 2


class RowBroken(Exception):
    pass


def failing(error):
    yield "a\n"
    yield "b"
    raise error


@pytest.mark.parametrize("error", [RowBroken("secret"), KeyboardInterrupt(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("read", ["read", "readline"])
def test_keeps_the_exception_and_raises_a_bare_marker(error, read):
    ours = StringIteratorIO(failing(error))
    assert ours.readline() == "a\n"
    with pytest.raises(StreamBroken) as raised:
        getattr(ours, read)()
    assert ours.error is error
    # psycopg2 sends the text to the server's log, and a chained exception would carry the data there.
    assert str(raised.value) == ""
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("read", ["read", "readline"])
def test_never_passes_for_ended_after_an_exception(read):
    ours = StringIteratorIO(failing(RowBroken()))
    for _ in range(3):
        with pytest.raises(StreamBroken):
            ours.read()
    with pytest.raises(StreamBroken):
        getattr(ours, read)(1)


def test_something_else_than_text_is_no_end():
    ours = StringIteratorIO(iter(["a", None, "b"]))
    with pytest.raises(StreamBroken):
        ours.read()
    assert isinstance(ours.error, TypeError)


def test_is_a_readable_text_file_and_nothing_else():
    ours = stream("a\n", "b")
    assert isinstance(ours, io.TextIOBase)
    assert (ours.readable(), ours.writable(), ours.seekable()) == (True, False, False)
    with pytest.raises(io.UnsupportedOperation):
        ours.write("x")
    with pytest.raises(io.UnsupportedOperation):
        ours.seek(0)


def test_takes_part_in_whatever_takes_text_files():
    assert stream("a\nb", "\nc").readlines() == ["a\n", "b\n", "c"]
    with stream("x\n") as ours:
        assert next(ours) == "x\n"
        with pytest.raises(StopIteration):
            next(ours)


@pytest.mark.parametrize("read", ["read", "readline", "__next__"])
def test_reading_a_closed_stream_is_an_error_not_an_end(read):
    ours = stream("a")
    ours.close()
    assert ours.closed
    with pytest.raises(ValueError, match="closed"):
        getattr(ours, read)()


def test_an_exception_of_a_signal_handler_during_a_read_is_kept_like_the_iterators():
    """psycopg2 swallows what `read` raises: a Ctrl-C that arrives there must not be lost."""

    def strings():
        yield "a"
        signal.raise_signal(signal.SIGINT)
        yield "b"

    for read in ("read", "readline"):
        stream = StringIteratorIO(strings())
        with pytest.raises(StreamBroken):
            getattr(stream, read)()
        assert isinstance(stream.error, KeyboardInterrupt)
