"""What the OpenAPI document of a running service says, tried by schemathesis.

Every operation gets generated parameters and bodies, such as the document allows and such as it
does not. Answers must have a documented status, media type, schema and headers.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from service.config.settings import Settings
from service.transports.http.oip_body import HEADER_LENGTH
from service.transports.http.openapi import document
from tests.server import Server

DOCUMENT = document(Settings())
OPERATIONS = {
    operation.label: operation
    for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    if (operation := found.ok()) is not None  # type: ignore[union-attr]
}
HAVE_BODY = [label for label, operation in OPERATIONS.items() if operation.body]
"""Of which schemathesis can make what is not allowed."""
EXAMPLES = 12
NAMES = ("lenet5", "lenet5.tensor", "lenet5.topk", "efficientnet_lite0")

QUIET: dict[str, Any] = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


def check(case: schemathesis.Case, server: Server) -> int:
    """Send it, compare the answer with the document, return the status."""
    if case.media_type == "application/json":
        case.headers.pop(HEADER_LENGTH, None)  # any number would cut the JSON off
    answer = case.call(base_url=server.url)
    # what a schema cannot say: which models there are, and what tensors they take; a deadline of
    # a millisecond is allowed, and missed; it knows no 413 for too many pictures of a form
    ours: list[Any] = [not_a_server_error, positive_data_acceptance, negative_data_rejection]
    case.validate_response(answer, excluded_checks=ours)
    assert answer.status_code not in (500, 501, 502, 503), answer.text
    return int(answer.status_code)


@pytest.mark.parametrize("label", OPERATIONS)
def test_what_the_document_allows(label: str, server: Server) -> None:
    operation, statuses = OPERATIONS[label], set()

    @settings(max_examples=EXAMPLES, **QUIET)
    @given(case=operation.as_strategy(), name=st.sampled_from((None, *NAMES)))
    def run(case: schemathesis.Case, name: str | None) -> None:
        if name is not None and "name" in case.path_parameters:
            case.path_parameters["name"] = name
            if "version" in case.path_parameters:
                case.path_parameters["version"] = "1"
        statuses.add(check(case, server))

    run()
    assert statuses


@pytest.mark.parametrize("label", HAVE_BODY)
def test_what_the_document_does_not_allow(label: str, server: Server) -> None:
    operation, statuses = OPERATIONS[label], set()
    negative = schemathesis.GenerationMode.NEGATIVE

    @settings(max_examples=EXAMPLES, **QUIET)
    @given(case=operation.as_strategy(generation_mode=negative))
    def run(case: schemathesis.Case) -> None:
        statuses.add(check(case, server))

    run()
    assert all(status >= 400 for status in statuses)
