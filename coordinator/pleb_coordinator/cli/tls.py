"""A self-signed certificate whose SHA-256 attach links carry: TLS on a LAN without a proxy."""

from __future__ import annotations

import contextlib
import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pleb_coordinator.home.keys import make_secret_file
from pleb_shared.protocol.ids import digest_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["certificate_pin"]

_LIFE: Final = timedelta(days=3650)


def certificate_pin(folder: Path, host: str, now: float) -> str:
    """Return the SHA-256 of the certificate's DER form; it is created the first time.

    The pin is in every attach link, so the certificate is never replaced.
    """
    file, key_file = folder / "certificate.pem", folder / "key.pem"
    if not (file.exists() and key_file.exists()):
        _make(file, key_file, host, datetime.fromtimestamp(now, UTC))
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    return digest_of(certificate.public_bytes(Encoding.DER))


def _make(file: Path, key_file: Path, host: str, now: datetime) -> None:
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    addresses = {"127.0.0.1", "::1"}
    with contextlib.suppress(ValueError):
        addresses.add(str(ipaddress.ip_address(host)))
    if host not in addresses:
        names.append(x509.DNSName(host))
    names += [x509.IPAddress(ipaddress.ip_address(one)) for one in sorted(addresses)]
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pleb-Cluster coordinator")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file.unlink(missing_ok=True)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    make_secret_file(key_file, pem)
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
