"""Keys on both ports: who is let in, who is not, and what is told about it."""

from __future__ import annotations

from service.config.settings import Settings
from service.errors import Forbidden, Unauthorized, ZooError
from service.transports.auth import Access, Need

API = "api-key-of-sixteen-or-more"
ADMIN = "admin-key-of-sixteen-or-more"


def outcome(settings: Settings, need: Need, key: str | None) -> type[ZooError] | None:
    access = Access.of(settings)
    assert access is not None
    try:
        access.check(need, None if key is None else f"Bearer {key}", transport="http")
    except ZooError as error:
        return type(error)
    return None


def test_each_kind_of_keys_alone() -> None:
    only_admin = Settings(admin_keys=[ADMIN])
    assert outcome(only_admin, Need.KEY, None) is None
    assert outcome(only_admin, Need.ADMIN, None) is Unauthorized
    assert outcome(only_admin, Need.ADMIN, API) is Unauthorized
    assert outcome(only_admin, Need.ADMIN, ADMIN) is None
    only_api = Settings(api_keys=[API])
    assert outcome(only_api, Need.KEY, ADMIN) is Unauthorized
    assert outcome(only_api, Need.ADMIN, API) is Forbidden
    assert outcome(only_api, Need.NOTHING, None) is None
    both = Settings(api_keys=[API], admin_keys=[ADMIN])
    assert outcome(both, Need.ADMIN, API) is Forbidden
    assert outcome(both, Need.KEY, ADMIN) is None
    assert Access.of(Settings()) is None


def test_settings_do_not_show_keys() -> None:
    settings = Settings(api_keys=[API], admin_keys=[ADMIN])
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert API not in text
        assert ADMIN not in text
