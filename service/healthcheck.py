"""Asks the service in this container whether it is ready, for Docker.

    python -m service.healthcheck

Docker runs it in the container as its HEALTHCHECK, since the image has no curl. It is started every
few seconds, so it imports nothing of the service. It exits with 1 and a line that says why where
the service is not ready.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys

TIMEOUT_S = 4
"""Docker gives up after 5 s (deploy/Dockerfile)."""
HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  not bound to
"""The address to connect to, where the service is bound to every address."""


def failure() -> str | None:
    """Return what is wrong, in a line, or None when /readyz answers 200.

    Where clients must show a certificate (`ZOO_TLS_CLIENT_CA`) this command has none to show; then
    it is enough that the port takes a connection.
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
    """Return a connection, by TLS where the service has it.

    Any certificate is accepted, since the connection does not leave this machine.
    """
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
