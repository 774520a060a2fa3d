"""What the settings make of the environment, in production and on a developer's machine; and .env.example."""

import ast
import json
import re
import secrets
import subprocess
import sys

import pytest

from tests.stack import compose, container

PRODUCTION = {
    "SECRET_KEY": secrets.token_hex(32),
    "DATABASE_URL": "postgres://ingestion:password@127.0.0.1:1/ingestion",
    "REDIS_URL": "redis://:password@127.0.0.1:1/0",
    "ALLOWED_HOSTS": "ingestion.example.com",
}
SHOW = """
import json
import sys
from django.conf import settings
print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}))
"""
# Set by the system, or by the project (its Makefile, its tests) for its own processes.
NOT_OURS = {
    "PATH",
    "HOME",
    "LANG",
    "LD_PRELOAD",
    "DJANGO_SETTINGS_MODULE",
    "PYTHONPATH",
    "UP_STARTED_AT",
    "BENCH_RANGE_PAGES",
    "FAULT_POINTS",
}
# The feeds of the faults read where the faults have put their remotes.
NOT_OURS_PREFIX = "UNRULY_"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a copy of the project without the .env that this checkout may have."""
    directory = tmp_path_factory.mktemp("settings") / "app"
    directory.mkdir()
    container.copy_context(directory)
    return directory


@pytest.fixture
def run(project, tmp_path):
    """Return a function that runs Python in the project with nothing in its environment but what is given."""

    def run(*arguments, **variables):
        here = {"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(tmp_path)}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env=here | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def settings_of(run):
    """Return a function that loads the settings in an environment and returns some of them."""

    def settings_of(*names, **variables):
        finished = run("-c", SHOW, *names, **variables)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    return settings_of


def test_check_deploy_finds_nothing_in_production(run):
    finished = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert finished.returncode == 0, finished.stderr
    assert "no issues" in finished.stdout


def test_check_deploy_would_notice_a_wrong_setting(run):
    finished = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION | {"HTTPS": "off"})
    assert finished.returncode == 1
    assert "security.W" in finished.stderr


@pytest.mark.parametrize("value", [{}, {"SECRET_KEY": ""}])
def test_a_missing_secret_key_fails_at_start_with_its_name(run, value):
    variables = {name: text for name, text in PRODUCTION.items() if name != "SECRET_KEY"}
    finished = run("-c", "import django; django.setup()", **variables | value)
    assert finished.returncode != 0
    assert "SECRET_KEY" in finished.stderr.splitlines()[-1]


def test_debug_is_off_unless_asked_for(settings_of):
    assert settings_of("DEBUG", **PRODUCTION) == {"DEBUG": False}
    assert settings_of("DEBUG") == {"DEBUG": False}
    assert settings_of("DEBUG", DEBUG="on") == {"DEBUG": True}


def test_production_is_safe_without_further_settings(settings_of):
    names = ("SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_PROXY_SSL_HEADER")
    assert settings_of(*names, "ALLOWED_HOSTS", **PRODUCTION) == {
        "SECURE_SSL_REDIRECT": True,
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        "SECURE_PROXY_SSL_HEADER": None,
        "ALLOWED_HOSTS": ["ingestion.example.com"],
    }


def test_production_keeps_nothing_on_the_disk(settings_of, tmp_path):
    settings_of("SECRET_KEY", **PRODUCTION)
    assert list(tmp_path.iterdir()) == []


def test_a_developers_machine_needs_no_settings(settings_of):
    names = ("EMBEDDED_POSTGRES", "EMBEDDED_REDIS", "SECURE_SSL_REDIRECT", "ALLOWED_HOSTS", "SECRET_KEY")
    first, second = settings_of(*names), settings_of(*names)
    assert first == second  # the generated key is kept
    assert len(first.pop("SECRET_KEY")) >= 50
    assert first == {
        "EMBEDDED_POSTGRES": True,
        "EMBEDDED_REDIS": True,
        "SECURE_SSL_REDIRECT": False,
        "ALLOWED_HOSTS": ["localhost", "127.0.0.1", "[::1]"],
    }


def test_a_copied_example_file_suits_a_developers_machine(settings_of):
    names = ("EMBEDDED_POSTGRES", "SECURE_SSL_REDIRECT", "PHOTOS_API_URL", "SECRET_KEY")
    copied = settings_of(*names, **compose.example())
    assert copied == settings_of(*names)


# .env.example


def documented():
    """Return the variables of .env.example, commented out or not."""
    return re.findall(r"^#?([A-Z_]+)=", compose.EXAMPLE.read_text(), flags=re.MULTILINE)


def read_by_python():
    """Return the variables that the project's and the tests' Python reads by a literal name."""
    names = set()
    for folder in ("config", "ingestion", "photos", "worker", "tests"):
        for path in (container.ROOT / folder).rglob("*.py"):
            # Most files name nothing of the kind, and parsing all of them takes seconds.
            if "env" in (text := path.read_text()):
                names |= {name for node in ast.walk(ast.parse(text)) for name in _variable(node)}
    return {name for name in names - NOT_OURS if not name.startswith(NOT_OURS_PREFIX)}


def _variable(node):
    """Yield the name in `env.str("NAME")`, `os.environ.get("NAME")`, `os.getenv("NAME")` or `os.environ["NAME"]`."""
    match node:
        case ast.Call(func=ast.Attribute(value=owner, attr=method), args=[ast.Constant(value=str(name)), *_]) if (
            ast.unparse(owner) in ("env", "os.environ") or (ast.unparse(owner), method) == ("os", "getenv")
        ):
            yield name
        case ast.Subscript(value=owner, slice=ast.Constant(value=str(name))) if ast.unparse(owner) == "os.environ":
            yield name


def read_by_compose():
    """Return the variables of docker-compose.yml, and the one that Compose reads by itself."""
    return set(re.findall(r"\$\{(\w+)", compose.FILE.read_text())) | {"COMPOSE_PROFILES"}


def test_the_example_lists_every_variable_that_is_read_and_no_other():
    assert {"SECRET_KEY", "HEALTH_FILE", "LOG_FORMAT", "DATA_DIR"} <= read_by_python()  # the search finds each form
    assert set(documented()) == read_by_python() | read_by_compose()


def test_the_deployment_guide_explains_every_variable_of_compose():
    _, _, section = (container.ROOT / "docs/deploy.md").read_text().partition("\n## Variables\n")
    first_cells = [line.split("|")[1] for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", "".join(first_cells))) == read_by_compose()


def test_the_example_explains_each_variable_once():
    assert len(documented()) == len(set(documented()))
    lines = compose.EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?[A-Z_]+=", line):
            assert re.match(r"# .{20,}", lines[number - 1]), line


def test_the_example_holds_no_secret():
    assert {name: compose.example()[name] for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "SECRET_KEY")} == {
        "POSTGRES_PASSWORD": "",
        "REDIS_PASSWORD": "",
        "SECRET_KEY": "",
    }
