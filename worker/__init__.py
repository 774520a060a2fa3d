"""Celery: the tasks that advance parts, dispatch and schedules. The engine does not know it."""
