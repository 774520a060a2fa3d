"""Django settings. Everything that varies is read from the environment here, and listed in .env.example."""

import base64
import hashlib
import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import environ
import structlog
from django.core.exceptions import ImproperlyConfigured

from config import servers

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")

DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / ".data")))
DATABASE_URL = env.str("DATABASE_URL", default="")
REDIS_URL = env.str("REDIS_URL", default="")
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
EXTRA_APPS = [name.strip() for name in env.list("EXTRA_APPS", default=[]) if name.strip()]
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
# Where the worker and beat write the heartbeat that a container's health check reads; none is written when unset.
HEALTH_FILE = env.str("HEALTH_FILE", default="")

EMBEDDED_POSTGRES = not DATABASE_URL
EMBEDDED_REDIS = not REDIS_URL
# With its own database the project runs on this machine for its developer: generated secrets and plain http will do.
LOCAL = EMBEDDED_POSTGRES or DEBUG
HTTPS = env.bool("HTTPS", default=not LOCAL)

# Where the embedded servers listen, and generated secrets: made in DATA_DIR on first need.
_addresses = partial(servers.addresses, DATA_DIR)

# Without a SECRET_KEY a production process fails here, with the variable's name.
SECRET_KEY = env.str("SECRET_KEY", default="") or (_addresses().secret_key if LOCAL else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("Set the SECRET_KEY environment variable")
if LOCAL and not ALLOWED_HOSTS:
    ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

# The remote of the photos feed; the bundled sample API when unset.
PHOTOS_API_URL = env.str("PHOTOS_API_URL", default="") or (
    f"http://127.0.0.1:{_addresses().sample_api_port}" if LOCAL else ""
)

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "ingestion",
    "photos",
    "worker",
    *EXTRA_APPS,
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": env.db_url_config(DATABASE_URL) if DATABASE_URL else dict(_addresses().database)}
DATABASES["default"].setdefault("CONN_HEALTH_CHECKS", True)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
# django-celery-beat 2.9 filters crontabs by the server's hour: other values make them fire at the wrong time.
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=str(DATA_DIR / "static"))
# On a developer's machine files come straight from the apps when they are asked for; an image collects and
# fingerprints them.
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = LOCAL
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if LOCAL
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("BEHIND_PROXY", default=False) else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS

# How the engine asks the workers to go on with a part; it imports no worker itself.
INGESTION_WAKE = "worker.dispatch.wake"
# Who knows when each feed runs next.
INGESTION_NEXT_RUNS = "worker.schedules.next_runs"

# The quarantine forgets resolved rejects after the first time, and all others after the second.
RESOLVED_REJECTS_KEPT_DAYS = env.int("RESOLVED_REJECTS_KEPT_DAYS", default=30)
REJECTS_KEPT_DAYS = env.int("REJECTS_KEPT_DAYS", default=365)
# Parts of all feeds that workers read from one host at once; 0 for as many as there are workers.
PARTS_PER_HOST = env.int("PARTS_PER_HOST", default=8)
# Failed attempts in a row on one host, over all feeds, after which its feeds wait until it answers; 0 for never.
HOST_FAILURES = env.int("HOST_FAILURES", default=3)

# Hosts, addresses and networks that remotes may have although they are not public: Note [Private addresses]. A base URL
# in the environment is the operator's own choice, and on a developer's machine remotes run beside the project.
ALLOWED_PRIVATE_HOSTS = [
    *env.list("ALLOWED_PRIVATE_HOSTS", default=[]),
    *(
        url.netloc.rpartition("@")[2].partition(":")[0]
        for name, value in sorted(os.environ.items())
        if name.endswith("_API_URL") and "[" not in value and (url := urlsplit(value))
    ),
    *(["127.0.0.0/8", "::1"] if LOCAL else []),
]

# Keys of stored credentials, the newest first: Note [Keys]. On a developer's machine one is made of the secret key.
CREDENTIAL_KEYS = env.list("CREDENTIAL_KEYS", default=[]) or (
    [base64.urlsafe_b64encode(hashlib.sha256(b"credentials:" + SECRET_KEY.encode()).digest()).decode()] if LOCAL else []
)

# A slice ends itself after a minute; the limits below only catch one that hangs.
SLICE_SECONDS = 60
CELERY_BROKER_URL = REDIS_URL or _addresses().redis_url
# Where processes count their requests together, as redis-py writes it.
BUDGETS_URL = CELERY_BROKER_URL.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Longer than the hard time limit: a message must not be delivered again while its task runs.
    "visibility_timeout": 3600,
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
}
# Publishing gives up after about 3 s; dispatch repairs what was not published.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 2, "interval_start": 0.2, "interval_step": 0.5, "interval_max": 1}
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_TASK_SOFT_TIME_LIMIT = 600
CELERY_TASK_TIME_LIMIT = 660
CELERY_TASK_DEFAULT_QUEUE = "ingestion"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10
CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE = True
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_IMPORTS = ["worker.heartbeats"]
CELERY_BEAT_SCHEDULER = "worker.beat:Scheduler"  # django-celery-beat's, with slots and a heartbeat
CELERY_BEAT_SYNC_EVERY = 1
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
CELERY_TIMEZONE = "UTC"
DISPATCH_EVERY = timedelta(seconds=5)

structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,  # first: what nobody sees costs next to nothing
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Its default shows the value of every local variable, secrets included, and takes a second to do so.
                structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
                if os.environ.get("LOG_FORMAT", "text") == "text"
                else structlog.processors.JSONRenderer(),
            ],
            "foreign_pre_chain": [
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    # One line per request or per query would hide the others. These also write URLs with their query, and urllib3, as a
    # warning, what a remote sent in place of headers, which may be what was sent to it.
    "loggers": {
        **{name: {"level": "WARNING"} for name in ("asyncssh", "botocore", "boto3", "httpx", "httpcore", "zeep")},
        "urllib3": {"level": "ERROR"},
    },
}
