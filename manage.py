#!/usr/bin/env python
"""Django's command line, on embedded servers when no other ones are configured."""

import os
import sys

# Commands that touch neither the database nor the broker.
OFFLINE = {"help", "version", "--help", "-h", "--version", "collectstatic", "startapp"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    if len(sys.argv) > 1 and sys.argv[1] not in OFFLINE:
        from config.embedded import ensure_servers

        ensure_servers()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
