# One image for every service of docker-compose.yml: they differ only in their command.

# The version the tests run on. A newer one is this line and a test run: the lock holds wheels for it too.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-trixie AS packages
COPY requirements/core.txt /tmp/core.txt
# Wheels only: nothing is compiled here, and a package without a wheel fails instead of running its build script.
RUN python -m venv --without-pip /venv \
    && pip --python /venv install --no-cache-dir --disable-pip-version-check --require-hashes \
        --only-binary :all: --requirement /tmp/core.txt

FROM python:${PYTHON_VERSION}-slim-trixie
# A fixed number, so that mounted files and Kubernetes' runAsNonRoot can name it.
RUN groupadd --gid 10001 app \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    STATIC_ROOT=/app/static
WORKDIR /app
COPY --from=packages /venv /venv
# .dockerignore lists what this is. It stays root's: the services cannot change their own code.
COPY . .
# The settings want these three; nothing connects, and nothing of them stays in the image.
RUN SECRET_KEY=for-this-command-only DATABASE_URL=postgres://nowhere/none REDIS_URL=redis://nowhere \
        python manage.py collectstatic --noinput \
    && python -m compileall -q .
USER 10001:10001
# Celery finishes its tasks and gunicorn its requests.
STOPSIGNAL SIGTERM
EXPOSE 8000
# Health checks are docker-compose.yml's: each service has its own.
CMD ["gunicorn", "config.wsgi", "--bind", "0.0.0.0:8000", "--no-control-socket"]
