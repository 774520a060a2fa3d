"""The administrator that `make up` creates, and remembers the password of."""

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import User

from config.servers.addresses import write_private

NAME = "admin"


@dataclass(frozen=True, kw_only=True)
class Login:
    """What to type into the admin's login form; no password where somebody has set another one."""

    username: str
    password: str | None = field(repr=False)


def ensure_login(path: Path) -> Login:
    """Return the administrator's login as kept in the file, creating the user and the file on first need."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    user = User.objects.filter(username=NAME).first()
    if user is None:
        password = kept.get("password") or secrets.token_urlsafe(12)
        user = User.objects.create_superuser(NAME, password=password)
        # The hash, too, so that the next start need not spend half a second on checking the password.
        kept = {"username": NAME, "password": password, "hash": user.password}
        write_private(path, json.dumps(kept, indent=2) + "\n")
    elif kept and kept["hash"] != user.password and not check_password(kept["password"], user.password):
        kept = {}
    return Login(username=NAME, password=kept.get("password"))
