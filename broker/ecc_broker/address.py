"""A broker's address: `mqtt://host:port` or `mqtts://user@host:port`."""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ecc_model.errors import LinkError

PASSWORD_VARIABLE = "ECC_MQTT_PASSWORD"
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens, and as whom to talk to it. The password comes from the environment, never from a URL."""

    host: str
    port: int
    tls: bool
    user: str | None

    @property
    def url(self) -> str:
        """The address as people write it, without the user."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    @property
    def password(self) -> str | None:
        """What `ECC_MQTT_PASSWORD` holds, None if it is not set."""
        return os.environ.get(PASSWORD_VARIABLE)

    @property
    def is_loopback(self) -> bool:
        """Whether the broker runs on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_address(url: str, *, insecure: bool = False) -> Address:
    """Read a URL. `LinkError`: no such URL, a password in it, or plain text to another machine without `insecure`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as exc:
        raise LinkError(f"broker address {url!r} cannot be read ({exc}); write it as mqtt://host:port") from exc
    if parts.scheme not in _PORTS or not host or port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
        raise LinkError(f"broker address {url!r} cannot be used; write it as mqtt://host:port or mqtts://host:port")
    if parts.password is not None:
        raise LinkError(f"a broker address with a password in it; put the password into {PASSWORD_VARIABLE} instead")
    user = unquote(parts.username) if parts.username else None
    address = Address(host=host, port=port or _PORTS[parts.scheme], tls=parts.scheme == "mqtts", user=user)
    if not address.tls and not address.is_loopback and not insecure:
        raise LinkError(
            f"{address.url} is another machine and mqtt:// is not encrypted; use mqtts://, or allow it with --insecure"
        )
    return address


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Whom to trust: the system's certificates, or those of `ca_file`. `LinkError`: there are none in it."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        raise LinkError(f"{ca_file}: not a file of certificates ({exc.strerror or exc}); check --ca") from exc
