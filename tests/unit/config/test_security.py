"""Settings of keys, TLS and origins: what is bad stops the start, and no key is ever shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from service.config import settings

GOOD = "a-good-key-of-the-team"
BAD_KEYS = [
    "short",
    "x" * 15,
    "x" * 257,
    f"{GOOD},",
    ",",
    f"{GOOD} {GOOD}",
    f"{GOOD}\x7f",
    "sch\u00f6ne-schl\u00fcssel-hier",
    ",".join([GOOD] * 257),
]
BAD_ORIGINS = [
    "app.example",
    "https://app.example/",
    "https://app.example/path",
    "https://",
    "null",
    "https://a.example, *",
    "https://a.example,",
    "https://a.example https://b.example",
    ",".join(f"https://a{number}.example" for number in range(65)),
]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"ZOO_{name.upper()}", raising=False)


def weak_pair() -> bytes:
    """A key of 1024 bits with its certificate."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return plain + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certificate with its key, a foreign key, the key with a passphrase, and no PEM."""
    folder = tmp_path_factory.mktemp("pem")
    leaf, other = (trustme.CA().issue_cert("127.0.0.1") for _ in range(2))
    files = {
        "cert": leaf.cert_chain_pems[0].bytes(),
        "key": leaf.private_key_pem.bytes(),
        "other": other.private_key_pem.bytes(),
        "locked": load_pem_private_key(leaf.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        ),
        "weak": weak_pair(),
        "text": b"text",
        "empty": b"",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in (*files, "nothing")}


def refusal() -> str:
    with pytest.raises(settings.InvalidSettingsError) as refused:
        settings.load()
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["ZOO_API_KEYS", "ZOO_ADMIN_KEYS"])
@pytest.mark.parametrize("value", BAD_KEYS)
def test_bad_keys_are_refused_and_not_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    message = refusal()
    assert message.startswith(f"{name}=***: ")
    assert GOOD not in message
    assert value == "," or value not in message


@pytest.mark.parametrize("length", [16, 256])
def test_keys_within_the_bounds(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_API_KEYS", f" {'k' * length} , {GOOD}")
    keys = [key.get_secret_value() for key in settings.load().api_keys]
    assert keys == ["k" * length, GOOD]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it holds no key"),
        ("# only a comment\n\n", "it holds no key"),
        (f"{GOOD}\nshort\n", "key 2 is none"),
        (f"{GOOD} {GOOD}\n", "key 1 is none"),
        (f"{GOOD}\n" * 257, "it has more than 256 keys"),
        (f"{GOOD}\n" * 20_000, "it has more than 262144 bytes"),
    ],
)
def test_bad_files_of_keys(
    content: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    monkeypatch.setenv("ZOO_ADMIN_KEYS_FILE", str(path))
    message = refusal()
    assert message.startswith(f"ZOO_ADMIN_KEYS_FILE={path}: {reason}")
    assert GOOD not in message


def test_files_of_keys_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, reason in [(tmp_path, "it is no file"), (tmp_path / "none", "it cannot be read: No")]:
        monkeypatch.setenv("ZOO_API_KEYS_FILE", str(path))
        assert refusal().startswith(f"ZOO_API_KEYS_FILE={path}: {reason}")


@pytest.mark.parametrize(
    ("given", "name", "reason"),
    [
        ({"cert": "nothing", "key": "key"}, "cert", "it cannot be read: No such file"),
        ({"cert": "text", "key": "key"}, "cert", "it holds no certificate"),
        ({"cert": "empty", "key": "key"}, "cert", "it holds no certificate"),
        ({"cert": "key", "key": "key"}, "cert", "it holds no certificate"),
        ({"cert": "cert", "key": "nothing"}, "key", "it cannot be read: No such file"),
        ({"cert": "cert", "key": "text"}, "key", "it holds no private key"),
        ({"cert": "cert", "key": "cert"}, "key", "it holds no private key"),
        ({"cert": "cert", "key": "locked"}, "key", "it holds no private key in PEM without a"),
        (
            {"cert": "weak", "key": "weak"},
            "key",
            "OpenSSL refuses its certificate: ee key too small",
        ),
        ({"cert": "cert", "key": "other"}, "key", "it is not the key of ZOO_TLS_CERT"),
        ({"cert": "cert"}, "key", "ZOO_TLS_CERT is set and needs its key"),
        ({"key": "key"}, "key", "it needs ZOO_TLS_CERT"),
        ({"client_ca": "cert"}, "client_ca", "it needs ZOO_TLS_CERT and ZOO_TLS_KEY"),
        ({"cert": "cert", "key": "key", "client_ca": "text"}, "client_ca", "it holds no certi"),
        ({"cert": "cert", "key": "key", "client_ca": "nothing"}, "client_ca", "it cannot be read"),
    ],
)
def test_bad_files_of_tls(
    given: dict[str, str],
    name: str,
    reason: str,
    pem: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for setting, file in given.items():
        monkeypatch.setenv(f"ZOO_TLS_{setting.upper()}", str(pem[file]))
    value = pem[given[name]] if name in given else ""
    assert refusal().startswith(f"ZOO_TLS_{name.upper()}={value}: {reason}")


@pytest.mark.parametrize("value", BAD_ORIGINS)
def test_bad_origins(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CORS_ORIGINS", value)
    assert refusal().startswith(f"ZOO_CORS_ORIGINS={value}: ")


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("*", ("*",)),
        ("https://App.example", ("https://app.example",)),
        ("http://localhost:8080 ,http://[::1]:80", ("http://localhost:8080", "http://[::1]:80")),
    ],
)
def test_good_origins(
    value: str, origins: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CORS_ORIGINS", value)
    assert settings.load().cors_origins == origins
