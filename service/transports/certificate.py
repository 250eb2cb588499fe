"""Finds out when the server's certificate expires, for a metric."""

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
    """Set the metric of when the certificate in these settings expires, if there is one."""
    if settings.tls_cert is None:
        return
    try:
        seconds = expiry(settings.tls_cert, settings.tls_key)
        metrics.CERTIFICATE_EXPIRY.labels(settings.tls_cert.name).set(seconds)
    except OSError as error:
        logger.warning("when the certificate expires cannot be said: %s", error)


def expiry(certificate: Path, key: Path | None) -> float:
    """Return when the first certificate of a PEM file expires, in seconds since 1970; 0: it has.

    Python's standard library only shows a peer's certificate. So a TLS client and a TLS server
    with this certificate shake hands in memory, and the client trusts just what the file holds.
    Raises OSError (ssl.SSLError) where it is not a server's certificate.
    """
    of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of_server.load_cert_chain(certificate, key)
    of_client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    of_client.check_hostname = False
    of_client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    of_client.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = of_server.wrap_bio(to_server, to_client, server_side=True)
    client = of_client.wrap_bio(to_client, to_server)
    try:
        while not _handshake_done(client):
            _handshake_done(server)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return 0.0
        raise
    shown = client.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))


def _handshake_done(side: ssl.SSLObject) -> bool:
    """Take the handshake as far as it goes without more data; True once it is complete."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
