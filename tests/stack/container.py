"""What the Dockerfile and .dockerignore make of this checkout, done without a container engine."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"
CORE = ROOT / "requirements/core.txt"
PROGRAMS = Path(sys.executable).parent


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions as (name, text), continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    """Return the instructions of the image that is run."""
    everything = instructions()
    start = max(number for number, (name, _) in enumerate(everything) if name == "FROM")
    return everything[start:]


def one(name: str) -> str:
    """Return the text of the last stage's only instruction of that name."""
    (text,) = (text for found, text in last_stage() if found == name)
    return text


def environment(image: Path) -> dict[str, str]:
    """Return the image's variables, its directories replaced by their stand-ins here."""
    variables = dict(word.split("=", 1) for word in one("ENV").split())
    programs = image.parent / "venv/bin"
    variables["PATH"] = variables["PATH"].replace("/venv/bin:$PATH", f"{programs}{os.pathsep}{os.defpath}")
    here = {name: value.replace("/app", str(image)) for name, value in variables.items()}
    # The image's user has no home.
    return here | {"HOME": str(image.parent / "nonexistent"), "TMPDIR": str(image.parent)}


def is_ignored(path: str) -> bool:
    """Tell whether .dockerignore keeps the path out; the last pattern that matches it or a parent decides."""
    names = PurePosixPath(path).parts
    prefixes = ["/".join(names[:length]) for length in range(1, len(names) + 1)]
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            expression = _expression(pattern.removeprefix("!"))
            if any(expression.fullmatch(prefix) for prefix in prefixes):
                ignored = not pattern.startswith("!")
    return ignored


def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*"))


def copy_context(target: Path) -> None:
    """Copy what .dockerignore lets into the image."""
    for name in sorted(path.name for path in ROOT.iterdir() if path.name not in {".git", ".venv", ".data"}):
        top = ROOT / name
        for path in [top] if top.is_file() else top.rglob("*"):
            relative = path.relative_to(ROOT).as_posix()
            if path.is_file() and not is_ignored(relative):
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / relative)


def install_core(target: Path) -> None:
    """Make the image's virtual environment out of the packages of this one: the core lock's, and no other."""
    venv.create(target, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(target)}))
    for package in core_packages():
        for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            (site / name).symlink_to(str(package.locate_file(name)))
        for script in package.entry_points.select(group="console_scripts"):
            program = target / "bin" / script.name
            program.write_text(
                f"#!{target}/bin/python\nimport sys\nfrom {script.module} import {script.attr}\n"
                f"sys.exit({script.attr}())\n"
            )
            program.chmod(0o755)


def core_packages() -> list[Distribution]:
    """Return the installed packages of the core lock; some of its lines are for other Python versions only."""
    found = []
    for name, marker in re.findall(r"^([\w.-]+)==[^ ]+( ;)?", CORE.read_text(), flags=re.MULTILINE):
        try:
            found.append(distribution(name))
        except PackageNotFoundError:
            assert marker, f"{name} is in the core lock and not installed"
    return found


def build(target: Path) -> Path:
    """Make the image's /app in the target, its packages beside it, and run the Dockerfile's commands for them."""
    target.mkdir()
    install_core(target.parent / "venv")
    assert [text for name, text in last_stage() if name == "COPY"] == ["--from=packages /venv /venv", ". ."]
    copy_context(target)
    commands = [text for name, text in last_stage() if name == "RUN" and not text.startswith("groupadd")]
    for command in commands:
        subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=target,
            env=environment(target),
            capture_output=True,
            check=True,
            timeout=120,
        )
    return target
