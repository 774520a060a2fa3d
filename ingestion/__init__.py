"""Keep PostgreSQL tables in step with remote data: the engine, without Celery and without any feed."""
