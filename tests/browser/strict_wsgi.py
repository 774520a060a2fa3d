"""The project's application under a Content-Security-Policy that allows a page nothing but the site's own files."""

from config.wsgi import application as project

POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"


def application(environ, start_response):
    def start(status, headers, exc_info=None):
        return start_response(status, [*headers, ("Content-Security-Policy", POLICY)], exc_info)

    return project(environ, start)
