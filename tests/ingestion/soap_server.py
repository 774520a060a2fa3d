"""A SOAP service on loopback with a WSDL and a schema of its own, against which it checks every request."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from tests.remote import Raw, Remote, Reply, Request

SOAP_11, SOAP_12 = "http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"
STOCK = "urn:example:stock"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
USER, PASSWORD = "reader", "s3cret-passw0rd"

SCHEMA = f"""<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns="{STOCK}" targetNamespace="{STOCK}"
    elementFormDefault="qualified">
  <xsd:complexType name="Item"><xsd:sequence>
    <xsd:element name="code" type="xsd:string"/>
    <xsd:element name="name" type="xsd:string"/>
    <xsd:element name="price" type="xsd:decimal" nillable="true" minOccurs="0"/>
    <xsd:element name="tag" type="xsd:string" minOccurs="0" maxOccurs="unbounded"/>
    <xsd:element name="places" minOccurs="0"><xsd:complexType>
      <xsd:sequence minOccurs="0" maxOccurs="unbounded"><xsd:element name="place" type="xsd:string"/></xsd:sequence>
    </xsd:complexType></xsd:element>
  </xsd:sequence><xsd:attribute name="unit" type="xsd:string"/></xsd:complexType>
  <xsd:element name="GetItems"><xsd:complexType><xsd:sequence>
    <xsd:element name="request"><xsd:complexType><xsd:sequence>
      <xsd:element name="page" type="xsd:int"/><xsd:element name="size" type="xsd:int"/>
      <xsd:element name="warehouse" type="xsd:string" minOccurs="0"/>
    </xsd:sequence></xsd:complexType></xsd:element>
  </xsd:sequence></xsd:complexType></xsd:element>
  <xsd:element name="GetItemsResponse"><xsd:complexType><xsd:sequence>
    <xsd:element name="items" minOccurs="0" nillable="true"><xsd:complexType><xsd:sequence>
      <xsd:element name="item" type="Item" nillable="true" minOccurs="0" maxOccurs="unbounded"/>
    </xsd:sequence></xsd:complexType></xsd:element>
    <xsd:element name="total" type="xsd:int" minOccurs="0"/>
    <xsd:element name="next" type="xsd:string" minOccurs="0" nillable="true"/>
  </xsd:sequence></xsd:complexType></xsd:element>
</xsd:schema>"""

WSDL = """<wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" xmlns:xsd="http://www.w3.org/2001/XMLSchema"
    xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:soap12="http://schemas.xmlsoap.org/wsdl/soap12/"
    xmlns:tns="{stock}" targetNamespace="{stock}">
  <wsdl:types><xsd:schema><xsd:import namespace="{stock}" schemaLocation="{schema}"/></xsd:schema></wsdl:types>
  <wsdl:message name="In"><wsdl:part name="parameters" element="tns:GetItems"/></wsdl:message>
  <wsdl:message name="Out"><wsdl:part name="parameters" element="tns:GetItemsResponse"/></wsdl:message>
  <wsdl:portType name="Stock"><wsdl:operation name="GetItems">
    <wsdl:input message="tns:In"/><wsdl:output message="tns:Out"/>
  </wsdl:operation></wsdl:portType>
  {bindings}
  <wsdl:service name="StockService">{ports}</wsdl:service>
</wsdl:definitions>"""

BINDING = """<wsdl:binding name="{name}" type="tns:Stock">
  <{soap}:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
  <wsdl:operation name="GetItems"><{soap}:operation soapAction="urn:GetItems"/>
    <wsdl:input><{soap}:body use="literal"/></wsdl:input><wsdl:output><{soap}:body use="literal"/></wsdl:output>
  </wsdl:operation></wsdl:binding>"""
PORT = '<wsdl:port name="{name}" binding="tns:{name}"><{soap}:address location="{address}"/></wsdl:port>'
VERSIONS = {"Stock11": "soap", "Stock12": "soap12"}

# Answers a call in place of the stock: the page that was asked for, and the envelope's namespace.
Special = Callable[[int, str], Reply | Raw | None]


def wsdl(address: str, *, schema: str = "stock.xsd") -> str:
    """Return the WSDL of a service at an address, with a port for each version of SOAP."""
    return WSDL.format(
        stock=STOCK,
        schema=schema,
        bindings="".join(BINDING.format(name=name, soap=soap) for name, soap in VERSIONS.items()),
        ports="".join(PORT.format(name=name, soap=soap, address=address) for name, soap in VERSIONS.items()),
    )


def item(code: str, name: str, price: str | None = None, *, more: str = "", unit: str = "") -> str:
    """Return an item's element; without a price it is nil."""
    attribute = f" unit={quoteattr(unit)}" if unit else ""
    cost = '<price xsi:nil="true"/>' if price is None else f"<price>{price}</price>"
    return f"<item{attribute}><code>{code}</code><name>{escape(name)}</name>{cost}{more}</item>"


def envelope(content: str, namespace: str = SOAP_11) -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><e:Envelope xmlns:e="{namespace}" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Header/><e:Body>{content}</e:Body></e:Envelope>'
    ).encode()


def response(items: list[str], *, beside: str = "") -> str:
    return f'<GetItemsResponse xmlns="{STOCK}"><items>{"".join(items)}</items>{beside}</GetItemsResponse>'


def fault(said: str, namespace: str = SOAP_11) -> bytes:
    if namespace == SOAP_11:
        return envelope(f"<e:Fault><faultcode>e:Server</faultcode><faultstring>{said}</faultstring></e:Fault>")
    return envelope(
        "<e:Fault><e:Code><e:Value>e:Receiver</e:Value></e:Code>"
        f'<e:Reason><e:Text xml:lang="en">{said}</e:Text></e:Reason></e:Fault>',
        namespace,
    )


@dataclass
class Stock:
    """A service's items; `special` may answer in its place. Requests that the schema does not allow get a Fault."""

    items: list[str]
    special: Special = lambda page, namespace: None
    secured: bool = False
    wsdl: Callable[[str], str] = wsdl
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    nonces: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> Reply | Raw:
        if request.method == "GET":
            address = f"http://{request.headers['host']}/service"
            text = SCHEMA if request.path.endswith(".xsd") else self.wsdl(address)
            return Reply(body=text.encode(), headers={"Content-Type": "text/xml"})
        root = etree.fromstring(request.body)
        namespace = etree.QName(root).namespace
        (called,) = root.find(f"{{{namespace}}}Body")
        etree.XMLSchema(etree.fromstring(SCHEMA)).assertValid(called)
        asked = {etree.QName(each).localname: each.text for each in called[0]}
        self.asked.append(asked | {"namespace": namespace, "headers": request.headers})
        if self.secured and not self._is_known(root):
            return Reply(500, fault("who is that? password=hunter2hunter2", namespace))
        page, size = int(asked["page"]), int(asked["size"])
        special = self.special(page, namespace)
        if special is not None:
            return special
        content = response(self.items[(page - 1) * size : page * size], beside=f"<total>{len(self.items)}</total>")
        return Reply(body=envelope(content, namespace), headers={"Content-Type": "text/xml; charset=utf-8"})

    def _is_known(self, root: Any) -> bool:
        token = root.find(f".//{{{WSSE}}}UsernameToken")
        if token is None or token.findtext(f"{{{WSSE}}}Username") != USER:
            return False
        password = token.find(f"{{{WSSE}}}Password")
        if password.get("Type").endswith("#PasswordText"):
            return password.text == PASSWORD
        nonce, created = token.findtext(f"{{{WSSE}}}Nonce"), token.findtext(f"{{{WSU}}}Created")
        self.nonces.append(nonce)
        expected = hashlib.sha1(base64.b64decode(nonce) + created.encode() + PASSWORD.encode()).digest()
        return base64.b64encode(expected).decode() == password.text and self.nonces.count(nonce) == 1


def serve(stock: Stock) -> Remote:
    """Return the server; its WSDL is at `/service?wsdl`."""
    return Remote(stock.answer)
