"""Configures TLS of the HTTP port; `grpc/server.py` configures that of the gRPC port."""

from __future__ import annotations

import ssl
from typing import Any

from service.config.settings import Settings

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""The forward-secret, authenticated ciphers of TLS 1.2. No older version has any of them, so the
server speaks none; TLS 1.3 keeps OpenSSL's. BentoML's default allows the ciphers of TLS 1.0."""


def bentoml_config(settings: Settings) -> dict[str, Any]:
    """Return the `ssl` section of BentoML's service configuration, which goes on to uvicorn."""
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
