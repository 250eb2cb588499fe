"""TLS of the HTTP port, which BentoML hands on to uvicorn; that of gRPC is in its server."""

from __future__ import annotations

import ssl
from typing import Any

from service.config.settings import Settings

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, forward secret and authenticated; no older version has one of them. Those of TLS 1.3
are OpenSSL's. Without a word BentoML asks for the ciphers of TLS 1.0."""


def bentoml_config(settings: Settings) -> dict[str, Any]:
    """The part `ssl` of a service's configuration, so that no flag is needed."""
    if settings.tls_cert is None:
        return {"enabled": False}
    config = {
        "enabled": True,
        "certfile": str(settings.tls_cert),
        "keyfile": str(settings.tls_key),
        "ciphers": CIPHERS,
    }
    if settings.tls_client_ca is not None:
        config |= {"ca_certs": str(settings.tls_client_ca), "cert_reqs": int(ssl.CERT_REQUIRED)}
    return config
