"""Every command and every block of the documents, run as a reader would."""

import json
import re

import pytest
import yaml

from tests.docs import documents
from tests.docs.documents import Command
from tests.docs.reader import Reader, fresh_checkout
from tests.processes import ROOT

pytestmark = pytest.mark.xdist_group("docs")  # one checkout, not one for each process of pytest
# Commands that are not run here, and why.
NOT_RUN = {
    r"(\w+=\S+ )?make up": "installs and stays in the foreground; tests/config runs it",
    r"make (test|check|bench|lock|clean)": "would run this test again, or change the environment that it runs in",
    r"make faults( ARGS=.*)?": "takes more than an hour; tests/faults runs a quick selection",
    r"make soak( ARGS=.*)?": "takes minutes and gigabytes; tests/stack loads a smaller export in the same way",
    r"python -m pytest .*": "a test of this very suite",
    r"python manage\.py load_data --times 100": "takes minutes; the command is run with fewer photos",
    r"docker .*": "there may be no container engine; tests/stack runs every service's own command",
}
# Languages that are not commands: what is done with their blocks.
READ = {
    "text": lambda text: None,  # pictures
    "json": json.loads,
    "yaml": yaml.safe_load,
}
COMMANDS = {"sh", "console"}


def is_run(command: Command) -> bool:
    return not any(re.fullmatch(pattern, command.text) for pattern in NOT_RUN)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    with fresh_checkout(tmp_path_factory.mktemp("docs")) as checkout:
        yield checkout


WITH_COMMANDS = [
    name for name in documents.NAMES if any(block.language in COMMANDS for block in documents.blocks(name))
]


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_command_does_what_the_document_shows(name, checkout):
    reader = Reader(checkout)
    for block in documents.blocks(name):
        if block.language == "python":
            reader.save(block)
        for command in documents.commands(block):
            if is_run(command):
                reader.type(command)


@pytest.mark.parametrize("name", documents.NAMES)
def test_every_block_is_a_command_a_file_or_data_that_can_be_read(name):
    for block in documents.blocks(name):
        if block.language == "python":
            assert block.file, f"{block.where}: the first line of Python does not name its file"
            compile(block.text, block.where, "exec")
            assert name in WITH_COMMANDS
        elif block.language not in COMMANDS:
            assert block.language in READ, f"{block.where}: nobody reads {block.language!r}"
            READ[block.language](block.text)


def test_commands_that_are_not_run_exist():
    """Each exception is still needed, and each target of make is in the Makefile."""
    commands = [c for name in documents.NAMES for block in documents.blocks(name) for c in documents.commands(block)]
    skipped = [command for command in commands if not is_run(command)]
    for pattern in NOT_RUN:
        assert any(re.fullmatch(pattern, command.text) for command in skipped), f"{pattern} is in no document"
    makefile = (ROOT / "Makefile").read_text()
    for command in skipped:
        if found := re.search(r"\bmake (\w+)", command.text):
            assert re.search(rf"^{found[1]}:", makefile, flags=re.MULTILINE), f"{command.where}: {command.text}"


def test_output_with_other_numbers_or_lines_is_not_as_shown():
    """The comparison that the test of the commands rests on can fail."""
    from tests.docs.reader import is_as_shown

    shown = "photos: run 2 succeeded in 0.2 s: 5,000 read\n…\nend\n"
    assert is_as_shown("photos: run 17 succeeded in 1.234 s: 5,000 read\na\nb\nend\n", shown)
    assert not is_as_shown("photos: run 17 succeeded in 1.234 s: 4,999 read\nend\n", shown)
    assert not is_as_shown("photos: run 17 succeeded in 1.234 s: 5,000 read\nend\nmore\n", shown)
    assert is_as_shown("", "")
    assert not is_as_shown("anything\n", "")
