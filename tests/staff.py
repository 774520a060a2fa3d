"""Browsers' sessions of staff users, without a browser."""

from django.contrib.auth.models import Permission, User
from django.test import Client

# What somebody gets who may look at everything of the engine, and change nothing.
VIEWS = ("ingestion.view_feedstate", "ingestion.view_run", "ingestion.view_reject")


def staff(name: str, *permissions: str) -> User:
    """Create a staff user who has just these permissions, each as `app.codename`."""
    user = User.objects.create_user(name, is_staff=True)
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


def session(*permissions: str, name: str = "ada", **options: bool) -> Client:
    """Return a client logged in as a new staff user with these permissions."""
    client = Client(**options)
    client.force_login(staff(name, *permissions))
    return client


def superuser(name: str = "root") -> Client:
    """Return a client logged in as a new superuser."""
    client = Client()
    client.force_login(User.objects.create_superuser(name))
    return client


def said(response) -> list[str]:
    """Return the messages that a page shows, as HTML."""
    return [str(message) for message in response.context["messages"]]
