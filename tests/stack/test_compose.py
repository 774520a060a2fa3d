"""docker-compose.yml and the Dockerfile, checked as text; test_services runs what they describe."""

import re
import shutil
import subprocess

import pytest
from django.conf import settings
from django.core.management import get_commands

from tests.stack import compose, container
from tests.stack.compose import FILE
from tests.stack.stack import SERVERS

OURS = ("migrate", "web", "worker", "beat", "sample-api")
LONG_RUNNING = (*SERVERS, "web", "worker", "beat", "sample-api")


@pytest.fixture(scope="module")
def file():
    return compose.raw()


# The file as text


def test_the_file_is_valid_by_the_compose_specification():
    check = [container.PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE]
    finished = subprocess.run(check, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_yamllint_is_content():
    check = [container.PROGRAMS / "yamllint", "--strict", "--config-file", container.ROOT / ".yamllint.yml", FILE]
    finished = subprocess.run(check, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_services_are_those_that_are_tested_here(file):
    assert set(file["services"]) == {*SERVERS, *OURS}


def test_no_secret_stands_in_the_file(file):
    for name, service in file["services"].items():
        for variable, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN|AUTH", variable):
                # Required, or without a value of its own.
                assert re.fullmatch(r"\$\{\w+:(\?[^}]+|-)\}", value), (name, variable)
            for password in re.findall("//[^:/@]*:([^@]+)@", value):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", password), (name, variable)


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "SECRET_KEY"])
def test_a_missing_secret_fails_with_its_name(file, name):
    secrets = dict.fromkeys({"POSTGRES_PASSWORD", "REDIS_PASSWORD", "SECRET_KEY"} - {name}, "x")
    with pytest.raises(compose.MissingVariable, match=name):
        compose.interpolate(file, compose.example() | secrets)


def test_the_three_secrets_are_all_that_has_to_be_set(file):
    secrets = dict.fromkeys(("POSTGRES_PASSWORD", "REDIS_PASSWORD", "SECRET_KEY"), "x")
    assert compose.interpolate(file, secrets)["services"]["web"]["environment"]["HTTPS"] == "on"


def test_only_web_is_published_and_only_to_this_machine(file):
    published = {name: service["ports"] for name, service in file["services"].items() if "ports" in service}
    assert compose.interpolate(published, {}) == {"web": ["127.0.0.1:8000:8000"]}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_long_running_services_are_watched_and_restarted(file, name):
    service = file["services"][name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "stop_grace_period" in service


def test_grace_periods_are_longer_than_what_the_services_finish_first(file):
    grace = {name: compose.seconds(file["services"][name]["stop_grace_period"]) for name in ("web", "worker")}
    (graceful,) = (word for word in file["services"]["web"]["command"] if word.startswith("--graceful-timeout="))
    assert grace["web"] > int(graceful.partition("=")[2])
    assert grace["worker"] >= settings.SLICE_SECONDS + 20  # a slice ends at the first chunk boundary after its time


def test_migrate_runs_once_and_before_everything_that_needs_the_tables(file):
    assert file["services"]["migrate"]["restart"] == "no"
    for name in ("web", "worker", "beat"):
        assert file["services"][name]["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_no_rights_to_lose(file, name):
    service = file["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service  # the image's, which is not root


@pytest.mark.parametrize("name", OURS)
def test_commands_name_real_programs(file, name):
    assert shutil.which(file["services"][name]["command"][0], path=str(container.PROGRAMS))


def test_data_survives_in_named_volumes_at_the_images_own_places(file):
    mounts = {name: file["services"][name]["volumes"] for name in SERVERS}
    assert mounts == {"postgres": ["postgres:/var/lib/postgresql"], "redis": ["redis:/data"]}
    assert set(file["volumes"]) == {"postgres", "redis"}


def test_the_deployment_guide_names_services_and_commands_that_exist(file):
    guide = (container.ROOT / "docs/deploy.md").read_text()
    commands = re.findall(r"^docker compose (.+)$", guide, flags=re.MULTILINE)
    used = {found[1] for command in commands if (found := re.match(r"(?:exec|run)(?: -\S+)* ([\w-]+)", command))}
    assert {"web", "postgres", "migrate"} <= used <= set(file["services"])
    assert {name for command in commands for name in re.findall(r"manage\.py (\w+)", command)} <= set(get_commands())


# The image


def test_the_image_does_not_run_as_root():
    user, group = container.one("USER").split(":")
    assert int(user) > 0 < int(group)
    assert f"--uid {user} " in "".join(text for name, text in container.last_stage() if name == "RUN")


def test_packages_come_from_the_hashed_core_lock_without_a_build_step():
    (install,) = (text for name, text in container.instructions() if name == "RUN" and " install " in text)
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    assert ("COPY", "requirements/core.txt /tmp/core.txt") in container.instructions()
    assert not container.is_ignored("requirements/core.txt")


@pytest.mark.parametrize(
    "path",
    [
        ".git/config", ".venv/bin/python", ".data/servers.json", ".env", ".env.production", "tests/conftest.py",
        "docs/deploy.md", "requirements/dev.txt", "config/.env", "photos/__pycache__/models.pyc", "id_rsa",
    ],
)  # fmt: skip
def test_secrets_history_and_tests_stay_out_of_the_image(path):
    assert container.is_ignored(path)


def test_every_package_of_the_project_is_in_the_image():
    # Nobody deploys the examples; they need what the image does not have.
    packages = {path.parent.name for path in container.ROOT.glob("*/__init__.py")} - {"tests", "examples"}
    assert packages == {"config", "ingestion", "photos", "worker"}
    assert not any(container.is_ignored(f"{name}/__init__.py") for name in packages)
