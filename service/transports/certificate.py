"""When the certificate expires that clients are shown, by the standard library alone."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from service.config.settings import Settings
from service.telemetry import metrics

logger = logging.getLogger("zoo.metrics")

_EXPIRED = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""


def record_expiry(settings: Settings) -> None:
    """Set the metric that says when the certificate of these settings expires, if there is one."""
    if settings.tls_cert is None:
        return
    try:
        seconds = expiry(settings.tls_cert, settings.tls_key)
        metrics.CERTIFICATE_EXPIRY.labels(settings.tls_cert.name).set(seconds)
    except OSError as error:
        logger.warning("when the certificate expires cannot be said: %s", error)


def expiry(certificate: Path, key: Path | None) -> float:
    """When the first certificate of the PEM file expires, in seconds since 1970; 0: it has.

    Python cannot read a certificate as such, so a client in this process shakes hands with a server
    that has it, in memory, and trusts just what the file holds.
    Raises OSError (ssl.SSLError) where it is not a server's certificate.
    """
    shows = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shows.load_cert_chain(certificate, key)
    looks = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looks.check_hostname = False
    looks.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    looks.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = shows.wrap_bio(to_server, to_client, server_side=True)
    client = looks.wrap_bio(to_client, to_server)
    try:
        while not _shaken(client):
            _shaken(server)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return 0.0
        raise
    shown = client.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))


def _shaken(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
