"""nginx on loopback, for what only a server in use everywhere shows: its tags, ranges, gzip and TLS."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import wait_until

# Debian puts it where only root's PATH leads.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")

_CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  log_format asked '$request_method $uri$is_args$args $status $body_bytes_sent "$http_range" "$http_if_none_match"'
                   ' "$http_if_modified_since" "$sent_http_etag" "$sent_http_content_encoding"';
  access_log {folder}/access.log asked;
  client_body_temp_path {folder}/temp; proxy_temp_path {folder}/temp; fastcgi_temp_path {folder}/temp;
  uwsgi_temp_path {folder}/temp; scgi_temp_path {folder}/temp;
  types {{ application/json json; text/csv csv; }}
  gzip_types application/json; gzip_min_length 1; gzip_proxied any;
  {tls}
  server {{
    {listen}
    root {folder}/www;
    location /pages {{ gzip on; try_files /$arg_page.json =404; }}
    location /untagged {{ etag off; try_files /$arg_page.json =404; }}
    location /packed/ {{ gzip_static always; alias {folder}/www/; }}
    location ~ [.]br$ {{ types {{ }} add_header Content-Encoding br; }}
    location ~ [.]zst$ {{ types {{ }} add_header Content-Encoding zstd; }}
  }}
}}
"""
_TLS = """
  ssl_certificate {pki}/server.pem; ssl_certificate_key {pki}/server.key;
  ssl_client_certificate {pki}/ca.pem; ssl_verify_client on;
"""


@dataclass(frozen=True)
class Nginx:
    """A server that is up: its address, the folder that it serves, and what it was asked for."""

    url: str
    folder: Path

    @property
    def www(self) -> Path:
        return self.folder / "www"

    def asked(self) -> list[list[str]]:
        """Return what the log says of each request that has ended: its words, as `log_format` has them."""
        return [line.split(" ") for line in (self.folder / "access.log").read_text().splitlines()]


@contextmanager
def nginx(folder: Path, *, pki: Path | None = None) -> Iterator[Nginx]:
    """Serve `folder/www`, over TLS and to those with a certificate where `pki` is given."""
    if NGINX is None:
        pytest.skip("no nginx: install Debian's package `nginx`")
    (folder / "www").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = _CONFIGURATION.format(
        folder=folder,
        # Its worker would be somebody who may not read the folder.
        user="user root;" if os.geteuid() == 0 else "",
        tls=_TLS.format(pki=pki) if pki else "",
        listen=f"listen 127.0.0.1:{port}{' ssl' if pki else ''};",
    )
    (folder / "nginx.conf").write_text(text)
    command = [NGINX, "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"]
    process = subprocess.Popen(command)

    def is_up() -> bool:
        assert process.poll() is None, (folder / "error.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(is_up, what="nginx")
        yield Nginx(url=f"http{'s' if pki else ''}://127.0.0.1:{port}", folder=folder)
    finally:
        process.terminate()
        process.wait(30)


def private_authority(folder: Path) -> Path:
    """Make an authority with certificates of a server at 127.0.0.1 and of a client; return the folder that has them."""
    folder.mkdir()
    _openssl(folder, "req -x509 -newkey ec:curve -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        (folder / "extension").write_text(extension)
        _openssl(folder, f"req -newkey ec:curve -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr")
        signing = f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extension"
        _openssl(folder, f"{signing} -out {name}.pem")
    return folder


def _openssl(folder: Path, arguments: str) -> None:
    if not (folder / "curve").exists():
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-out", "curve"], cwd=folder, check=True)
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
