"""A service as its WSDL describes it, through zeep, whose documents and requests go through our HTTP client."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ingestion.errors import ConfigurationError, IngestionError, RunFailed
from ingestion.http import Client, Response, hidden, origin_of, secrets_in
from ingestion.sources.files.extras import needed
from ingestion.sources.soap.records import Shape

# Faults come with 500, in SOAP 1.2 also with 400.
ANSWERS: Final = frozenset({400, 500})
_SHOWN: Final = 200


class Transport:
    """What zeep asks for documents and sends requests with.

    Documents come from where the WSDL is, and from nowhere else: what it imports is its author's choice, not ours.
    """

    def __init__(self, client: Client, wsdl: str) -> None:
        self._client, self._wsdl = client, wsdl

    def load(self, url: str) -> bytes:
        """Return a document.

        Raises:
            RunFailed: `wsdl`, it is somewhere else, or not there.
        """
        if is_url(self._wsdl):
            if origin_of(url) != origin_of(self._wsdl):
                raise RunFailed("wsdl", f"it imports {_without_query(url)}, which is at another origin: it is not read")
            return self._client.get(url, {}).body
        folder = Path(self._wsdl).resolve().parent
        path = Path(url).resolve()
        if is_url(url) or not path.is_relative_to(folder):
            raise RunFailed("wsdl", f"it imports {_without_query(url)}, which is not in its folder: put a copy there")
        try:
            return path.read_bytes()
        except OSError as error:
            raise RunFailed("wsdl", f"{path.name} cannot be read: {error.strerror}") from error

    def post_xml(self, address: str, envelope: Any, headers: Mapping[str, str]) -> Response:
        """Send a request, and return the response, which may be a Fault."""
        etree = needed("lxml.etree", "soap")
        body: bytes = etree.tostring(envelope, xml_declaration=True, encoding="utf-8")
        return self._client.request("POST", address, {}, body=body, headers=headers, answers=ANSWERS)


class Service:
    """One operation of a service."""

    def __init__(self, ask: Callable[..., Any], answers: Mapping[str, Shape], operation: str) -> None:
        self._ask, self._operation, self.answers = ask, operation, answers

    def ask(self, arguments: Mapping[str, Any]) -> Response:
        """Send a request made of the arguments.

        Raises:
            ConfigurationError: they do not fit the operation.
            RetryLater, RunFailed: as of `Client.request`.
        """
        errors = needed("zeep.exceptions", "soap")
        try:
            response: Response = self._ask(**arguments)
        except IngestionError:
            raise
        except (errors.Error, TypeError) as error:  # which name elements
            said = hidden(str(error), secrets_in(arguments))[:_SHOWN]
            raise ConfigurationError(f"the arguments do not fit the operation {self._operation}: {said}") from None
        except (ArithmeticError, ValueError, KeyError) as error:  # which quote values
            said = f"a value is not of its element's type ({type(error).__name__})"
            raise ConfigurationError(f"the arguments do not fit the operation {self._operation}: {said}") from None
        return response


@dataclass(frozen=True, kw_only=True)
class Described:
    """A WSDL that was read, from where it is; several services may be made of it, for a thread each."""

    wsdl: str
    document: Any


def read_wsdl(client: Client, wsdl: str) -> Described:
    """Read a WSDL, and what it imports.

    Raises:
        RunFailed: `wsdl`, `xml_dtd`: it cannot be used.
    """
    errors = needed("zeep.exceptions", "soap")
    documents = needed("zeep.wsdl", "soap")
    try:
        document = documents.Document(wsdl, Transport(client, wsdl), settings=_settings())
    except IngestionError:
        raise
    except (errors.DTDForbidden, errors.EntitiesForbidden) as error:
        raise RunFailed("xml_dtd", "the WSDL has a document type, which may define entities; it is not read") from error
    except Exception as error:  # zeep raises whatever its parsers stumble over
        raise RunFailed("wsdl", f"it cannot be read: {type(error).__name__}: {str(error)[:_SHOWN]}") from error
    return Described(wsdl=wsdl, document=document)


def connect(  # noqa: PLR0913 - what a service is found by
    client: Client,
    described: Described,
    *,
    operation: str,
    service: str | None,
    port: str | None,
    url: str | None,
    token: tuple[str, str, bool] | None,
) -> Service:
    """Find an operation in a WSDL, to be asked with a client.

    Raises:
        ConfigurationError: it has no such service, port or operation, or its address is at another origin.
    """
    zeep, wsdl = needed("zeep", "soap"), described.wsdl
    found = zeep.Client(
        described.document, transport=Transport(client, wsdl), settings=_settings(), wsse=_security(token)
    )
    chosen = _port(found, service, port, operation)
    address = url or chosen.binding_options.get("address") or ""
    if url is None and is_url(wsdl) and origin_of(address) != origin_of(wsdl):
        raise ConfigurationError(
            f"the WSDL says that the service is at {_without_query(address)}, which is another origin than its own: "
            "set url when that is right"
        )
    proxy = found.create_service(str(chosen.binding.name), address)
    return Service(proxy[operation], _answers(chosen.binding.get(operation)), operation)


def _settings() -> Any:
    zeep = needed("zeep", "soap")
    return zeep.Settings(forbid_dtd=True, forbid_entities=True, raw_response=True, xml_huge_tree=False)


def _security(token: tuple[str, str, bool] | None) -> Any:
    if token is None:
        return None
    user, password, use_digest = token
    return needed("zeep.wsse.username", "soap").UsernameToken(user, password, use_digest=use_digest)


def _port(found: Any, service: str | None, port: str | None, operation: str) -> Any:
    """Return the first port that has the operation, among those of the given names."""
    known = []
    for service_name, each in found.wsdl.services.items():
        for port_name, candidate in each.ports.items():
            if service in (None, service_name) and port in (None, port_name):
                names = [str(name) for name in candidate.binding.all()]
                known += names
                if operation in names:
                    return candidate
    raise ConfigurationError(f"Soap: the WSDL has no operation {operation!r}, only {', '.join(sorted(set(known)))}")


def _answers(operation: Any) -> dict[str, Shape]:
    """Return the elements that may answer; of a body of several parts those."""
    body = getattr(operation.output, "body", None)
    if body is None:
        raise ConfigurationError(f"Soap: the operation {operation.name!r} answers nothing")
    whole = Shape(body.type)
    if operation.style == "rpc":
        # WSDL says nothing of the name, the WS-I Basic Profile (4.7.19) this; others send the message's.
        return {f"{operation.name}Response": whole, body.qname.localname: whole}
    return dict(whole.children) if body.qname.localname == "Body" else {body.qname.localname: whole}


def is_url(location: str) -> bool:
    """Tell whether a WSDL is somewhere else, and not in a file."""
    return urlsplit(location).scheme in ("http", "https")


def _without_query(url: str) -> str:
    host = urlsplit(url).hostname
    return f"{urlsplit(url).scheme}://{host}{urlsplit(url).path}" if host else Path(url).name
