"""Settings: defaults serve, a bad value stops the start with one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.config import settings
from service.config.cpus import available_cores
from tests.paths import ROOT

BAD = {
    "ZOO_DEFAULT_MODEL": ["vgg99", "../models/lenet5", "lenet5/1", ".", "..", "Lenet5"],
    "ZOO_MODELS": ["/nowhere", str(ROOT / "README.md")],
    "ZOO_LOAD": ["vgg99", "lenet5,", "lenet5;efficientnet_lite0", "all,lenet5", "../lenet5"],
    "ZOO_VERSIONS": ["newest", "latest:0", "latest:", "latest,1", "1,,2", "0", "1-3", "all,1"],
    "ZOO_WATCH_SECONDS": ["-1", "often", "nan", "inf", "1e9"],
    "ZOO_MANAGEMENT": ["open"],
    "ZOO_MODEL_MEMORY_MB": ["-1", "1GB"],
    "ZOO_WORKERS": ["0", "-1", "two", "1.5", "100000"],
    "ZOO_THREADS": ["-1", "many"],
    "ZOO_MAX_BODY_BYTES": ["0", "1MB"],
    "ZOO_MAX_BODIES_BYTES": ["0", "1000"],
    "ZOO_MAX_PIXELS": ["0"],
    "ZOO_MAX_PICTURES": ["0"],
    "ZOO_QUEUE_CROPS": ["0"],
    "ZOO_DEADLINE_MS": ["0"],
    "ZOO_PREPROCESSING": ["slow", "Exact", "fast,exact"],
    "ZOO_LOG_LEVEL": ["LOUD"],
    "ZOO_LOG_FORMAT": ["xml"],
    "ZOO_PROVIDERS": ["gpu", "cpu,,cuda", "cpu;cuda"],
    "ZOO_PROVIDERS_STRICT": ["maybe", "true"],
    "ZOO_CUDA_GRAPHS": ["2"],
    "ZOO_GPU_MEMORY_BYTES": ["-1", "8GB"],
    "ZOO_MODEL_SETTINGS": [
        "lenet5",
        "[]",
        '{"lenet5": 1}',
        '{"vgg99": {}}',
        '{"lenet5": {"provider": "cpu"}}',
        '{"lenet5": {"providers": ["gpu"]}}',
        '{"lenet5": {"max_batch": -1}}',
        '{"lenet5": {"versions": "newest"}}',
    ],
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"ZOO_{name.upper()}", raising=False)


def test_the_defaults() -> None:
    loaded = settings.load()
    assert loaded.default_model == "efficientnet_lite0"
    assert loaded.models == ROOT / "models"
    assert loaded.pool_threads == available_cores()
    assert loaded.providers == ()


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_a_bad_value_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.InvalidSettingsError) as refused:
        settings.load()
    message = str(refused.value)
    assert message.startswith(f"{name}={value}: ")
    assert "\n" not in message


def test_good_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "net" / "1").mkdir(parents=True)
    monkeypatch.setenv("ZOO_MODELS", str(tmp_path))
    monkeypatch.setenv("ZOO_DEFAULT_MODEL", "net")
    monkeypatch.setenv("ZOO_PROVIDERS", "CUDA, cpu")
    monkeypatch.setenv("ZOO_LOG_LEVEL", "debug")
    monkeypatch.setenv("ZOO_WORKERS", str(10 * available_cores()))
    loaded = settings.load()
    assert loaded.providers == ("cuda", "cpu")
    assert loaded.log_level == "DEBUG"
    assert loaded.pool_threads == available_cores() + 2
    monkeypatch.setenv("ZOO_PROVIDERS", "auto")
    monkeypatch.setenv("ZOO_THREADS", "3")
    assert settings.load().providers == ()
    assert settings.load().pool_threads == 3
    monkeypatch.setenv("ZOO_THREADS", "0")
    monkeypatch.setenv("ZOO_PROVIDERS", "openvino,cpu")
    assert settings.load().pool_threads == available_cores()
    monkeypatch.setenv("ZOO_PROVIDERS", "tensorrt,cpu")
    assert settings.load().pool_threads == available_cores() + 2  # they wait for it


def test_a_model_has_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_PROVIDERS", "cuda,cpu")
    monkeypatch.setenv("ZOO_MAX_BATCH", "8")
    own = '{"lenet5": {"providers": "tensorrt, cuda"}, "efficientnet_lite0": {"max_batch": 4}}'
    monkeypatch.setenv("ZOO_MODEL_SETTINGS", own)
    loaded = settings.load()
    lenet5, lite0, other = map(loaded.of_model, ("lenet5", "efficientnet_lite0", "other"))
    assert (lenet5.providers, lenet5.max_batch) == (("tensorrt", "cuda"), 8)
    assert (lite0.providers, lite0.max_batch) == (("cuda", "cpu"), 4)
    assert (other.providers, other.max_batch) == (("cuda", "cpu"), 8)
    assert settings.demanded(loaded) == ["cuda", "cpu", "tensorrt"]
    monkeypatch.setenv("ZOO_MODEL_SETTINGS", '{"lenet5": {"providers": "auto"}}')
    assert settings.load().of_model("lenet5").providers == ()


def test_an_error_in_a_models_settings_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MODEL_SETTINGS", '{"lenet5": {"providers": ["cpu", "gpu"]}}')
    with pytest.raises(
        settings.InvalidSettingsError, match=r"lenet5\.providers\.1: Input should be"
    ):
        settings.load()


def test_the_cache_is_where_the_user_keeps_such_things(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert settings.load().cache == tmp_path / "imagenet-zoo-server"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, as the standard says
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.load().cache == tmp_path / ".cache" / "imagenet-zoo-server"
    monkeypatch.setenv("ZOO_CACHE", "~/engines")
    assert settings.load().cache == tmp_path / "engines"


def test_what_is_loaded_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, everything, names in [
        ("all", True, []),
        ("Used", False, []),
        (" lenet5 ,efficientnet_lite0", False, ["lenet5", "efficientnet_lite0"]),
    ]:
        monkeypatch.setenv("ZOO_LOAD", value)
        loaded = settings.load()
        assert (loaded.load_all, loaded.loaded_names) == (everything, names)


def test_which_versions_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, meant in [
        ("all", "all"),
        ("Latest", "latest:1"),
        ("latest:3", "latest:3"),
        ("3, 1", "3,1"),
    ]:
        monkeypatch.setenv("ZOO_VERSIONS", given)
        assert settings.load().versions == meant
    monkeypatch.setenv("ZOO_MODEL_SETTINGS", '{"lenet5": {"versions": "latest:2"}}')
    loaded = settings.load()
    assert loaded.of_model("lenet5").versions == "latest:2"
    assert loaded.of_model("efficientnet_lite0").versions == "3,1"


def test_the_state_is_in_the_home_that_bentoml_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    assert settings.load().state == tmp_path / "zoo"
    monkeypatch.delenv("BENTOML_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.load().state == tmp_path / "bentoml" / "zoo"
    monkeypatch.setenv("ZOO_STATE", "~/wishes")
    assert settings.load().state == tmp_path / "wishes"


def test_pictures_are_exact_unless_fast_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().preprocessing == "exact"
    monkeypatch.setenv("ZOO_PREPROCESSING", "fast")
    assert settings.load().preprocessing == "fast"


def test_unknown_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.unknown_variables() == []
    monkeypatch.setenv("ZOO_DEFUALT_MODEL", "lenet5")
    assert settings.unknown_variables() == ["ZOO_DEFUALT_MODEL"]


def test_every_setting_is_documented_with_its_default() -> None:
    rows = {}
    for line in (ROOT / "docs" / "settings.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and cells[1].startswith("`ZOO_"):
            rows[cells[1].strip("`")] = cells[2].strip("`")
    fields = settings.Settings.model_fields
    assert set(rows) == {f"ZOO_{name.upper()}" for name in fields}
    for name, field in fields.items():
        if name not in ("models", "providers", "cache", "state"):
            default = "" if field.default in (None, ()) else str(field.default)
            written = default.lower() if isinstance(field.default, bool) else default
            assert rows[f"ZOO_{name.upper()}"] == written
