"""HTTP to addresses that strangers name: only to public hosts, checked at the address that is really connected to.

The name is resolved once, every address of it must be public, and the connection goes to that very address; so a name that
answers differently the second time (DNS rebinding) gains nothing. Redirects are followed by hand, with the same check.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from phonofilm.errors import InputError

TIMEOUT = 20.0
MAX_REDIRECTS = 3
PORTS = (None, 80, 443)
# Ends of names that are used within a machine or network alone (RFC 6761, 6762, 8375, 9476 and ICANN's .internal).
LOCAL_NAMES = (".localhost", ".local", ".localdomain", ".internal", ".home.arpa", ".lan", ".test", ".invalid", ".alt")
_MOVED = (301, 302, 303, 307, 308)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedAddress(InputError):
    """The URL names something that is not a public web server."""


class FetchError(InputError):
    """A public server did not give what was asked for."""


def is_public(address: Address) -> bool:
    """Whether an address is on the open internet: not this machine, not a private or reserved network, not multicast."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return is_public(inner)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if any(address in network for network in _ALSO_PRIVATE):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Versions of Python differ about these: IETF's own (clouds' metadata among them), old 6to4 relays, a network's own NAT64,
# segment routing, site-local.
_UNCLEAR = ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "5f00::/16", "fec0::/10")
# Public by its number, and the host's own from within a virtual machine of Azure: it hands out certificates and settings.
_AZURE_PLATFORM = "168.63.129.16/32"
_ALSO_PRIVATE = tuple(map(ipaddress.ip_network, (*_UNCLEAR, _AZURE_PLATFORM)))


@dataclass(frozen=True)
class PublicHttp:
    """`allowed` decides on addresses; tests let loopback in by another. `ports`: those that may be asked; None is any.

    `trusted`: hosts, each with a port, that are asked whatever their address: the operator named them.
    """

    allowed: Callable[[Address], bool] = is_public
    ports: tuple[int | None, ...] | None = PORTS
    timeout: float = TIMEOUT
    trusted: Set[tuple[str, int]] = frozenset()

    def fetch(self, url: str, max_bytes: int) -> bytes:
        """The body at a URL, after up to MAX_REDIRECTS redirects. Raises RefusedAddress and FetchError."""
        deadline = time.monotonic() + 3 * self.timeout
        for _ in range(MAX_REDIRECTS + 1):
            with closing(self._connect(url)) as connection:
                response = _ask(connection, "GET", url, None, {"Accept": "*/*"})
                if response.status in _MOVED and (where := response.getheader("Location")):
                    url = urljoin(url, where)
                    continue
                if response.status != 200:
                    raise FetchError(f"the URL answered with status {response.status}")
                return b"".join(_body(response, max_bytes, deadline))
        raise FetchError(f"the URL was redirected more than {MAX_REDIRECTS} times")

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send `body` and return the status. No redirect is followed. Raises RefusedAddress and FetchError.

        A host that sends its answer byte by byte is given up after three times the timeout, as in `fetch`.
        """
        with closing(self._connect(url)) as connection, _cut_after(3 * self.timeout, connection):
            return _ask(connection, "POST", url, body, headers).status

    def check(self, url: str) -> None:
        """Raises RefusedAddress for a URL that could never be asked: its host is a private address, however it is written, or a
        name of this machine or network. Looks no name up; what one leads to is checked when it is asked.
        """
        self._parts(url)

    def _parts(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError:
            raise RefusedAddress("the URL cannot be read") from None
        if parts.scheme not in ("http", "https") or not host or len(url) > 4096 or any(c <= " " for c in url):
            raise RefusedAddress("expected an http(s) URL")
        if parts.username is not None or parts.password is not None:
            raise RefusedAddress("a URL with a user name or password is not asked")
        if self._is_trusted(parts):
            return parts
        if self.ports is not None and port not in self.ports:
            raise RefusedAddress(f"port {port} is not asked; use 80 or 443")
        if (literal := _literal(host)) is not None:
            self._check(literal)
        return parts

    def _is_trusted(self, parts: SplitResult) -> bool:
        return (parts.hostname, _port(parts)) in self.trusted

    def _check(self, address: Address) -> None:
        if not self.allowed(address):
            raise RefusedAddress("the URL leads to a private, local or reserved address")

    def _connect(self, url: str) -> http.client.HTTPConnection:
        parts = self._parts(url)
        assert parts.hostname is not None
        secure, port = parts.scheme == "https", _port(parts)
        try:
            found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise FetchError("the URL's host is not known") from None
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        for address in [] if self._is_trusted(parts) else addresses:
            self._check(address)
        connection = http.client.HTTPConnection(parts.hostname, port, timeout=self.timeout)
        try:
            plain = socket.create_connection((str(addresses[0]), port), self.timeout)
            connection.sock = plain
            if secure:
                connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
        except OSError as error:
            raise FetchError(f"the URL's host cannot be reached ({error.strerror or type(error).__name__})") from error
        return connection


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _literal(host: str) -> Address | None:
    """The address that a host is without any look-up: written as one, in each way that the system's resolver takes, or as a
    name that is never another's, which stands for this machine. None for a name that has to be looked up.
    """
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()  # as IDNA reads it
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))  # 127.1, 0x7f000001, 0177.0.0.1, 2130706433
    except (OSError, UnicodeError):
        is_local = "." not in name or name.endswith(LOCAL_NAMES)
        return ipaddress.IPv4Address("127.0.0.1") if is_local else None


@contextmanager
def _cut_after(seconds: float, connection: http.client.HTTPConnection) -> Iterator[None]:
    """While open, the connection ends after so many seconds, whatever it waits for."""

    def cut() -> None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _ask(
    connection: http.client.HTTPConnection, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body, {"Host": parts.netloc, "User-Agent": "phonofilm", **headers})
        return connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(f"the URL's host did not answer ({type(error).__name__})") from error


def _body(response: http.client.HTTPResponse, max_bytes: int, deadline: float) -> Iterator[bytes]:
    taken = 0
    try:
        while piece := response.read(65_536):
            taken += len(piece)
            if taken > max_bytes:
                raise FetchError(f"the URL's file is larger than {max_bytes:,} bytes")
            if time.monotonic() > deadline:
                raise FetchError("the URL's host is too slow")
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"the URL's host broke off ({type(error).__name__})") from error
