"""Asks the service in this container whether it is ready, for Docker.

    python -m service.healthcheck

For supervisors that run a command inside (Docker's HEALTHCHECK), in an image without curl. It is
started every few seconds, so it imports nothing of the service.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys

TIMEOUT_S = 4
"""Docker gives up after 5 (deploy/Dockerfile)."""
HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  not bound to
"""Where a service that is bound to every address is asked."""


def failure() -> str | None:
    """What is wrong, or None when /readyz answers 200.

    Where clients must show a certificate (`ZOO_TLS_CLIENT_CA`) none is at hand: then it is enough
    that the port takes a connection.
    """
    host = os.environ.get("BENTOML_HOST") or os.environ.get("ZOO_HOST", "")
    address = (HERE.get(host, host), int(os.environ.get("BENTOML_PORT") or 3000))
    try:
        if os.environ.get("ZOO_TLS_CLIENT_CA"):
            socket.create_connection(address, TIMEOUT_S).close()
            return None
        connection = _connection(*address)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{address[0]}:{address[1]}: {error}"
    return None if answer.status == 200 else f"/readyz answers {answer.status}: {body}"


def _connection(host: str, port: int) -> http.client.HTTPConnection:
    """With TLS where the service has it, and any certificate: this machine alone is asked."""
    if not os.environ.get("ZOO_TLS_CERT"):
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=trusting)


if __name__ == "__main__":
    wrong = failure()
    if wrong:
        sys.exit(wrong)
