"""Settings: read from the environment, refused by name, shared out among processes."""

from pathlib import Path

import pytest

from app.__main__ import main
from app.admission import BODY_COPIES
from app.process.cores import PROCESS_BYTES
from app.settings import Limits, Settings, environment_warnings, variables

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENGINE", "abacus"),
        ("MAX_FILES", "0"),
        ("TIMEOUT_SECONDS", "soon"),
        ("DRAIN_SECONDS", "inf"),
        ("KEEP_ALIVE_SECONDS", "0"),
        ("MAX_CONNECTIONS", "0"),
        ("PROTOCOLS", "v3"),
        ("PROTOCOLS", "v1,,v2"),
        ("PROTOCOLS", "none,v1"),
        ("ROOT_PATH", "cifar10"),
        ("ROOT_PATH", "/cifar10/"),
        ("ROOT_PATH", "/größe"),
        ("TRUSTED_PROXIES", "nginx"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, 192.168.1.1/16"),
        ("TRUSTED_PROXIES", "127.0.0.1,"),
        ("BIND_HOST", " "),
        ("BIND_PORT", "65536"),
        ("BIND_PORT", "http"),
        ("ACCESS", "closed"),
        ("PUBLIC", "metrics,model"),
        ("ALLOWED_ORIGINS", "example.org"),
        ("ALLOWED_ORIGINS", "https://example.org/"),
        ("ALLOWED_ORIGINS", "*,https://example.org"),
        ("ALLOWED_ORIGINS", "null"),
        ("FRAME_ANCESTORS", "https://example.org; script-src *"),
        ("ALLOWED_HOSTS", "example.org:8000"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "https://example.org"),
    ],
)
def test_a_wrong_setting_is_named(capsys, monkeypatch, name, value):
    monkeypatch.setenv(f"CIFAR10_{name}", value)
    assert main(["check"]) == 2
    assert f"CIFAR10_{name} is '{value}'" in capsys.readouterr().err


def test_a_misspelt_setting_is_warned_of(capsys, monkeypatch):
    for name in ("MODELNAME", "DATA", "PORT", "SERVICE_HOST", "PORT_8000_TCP_ADDR"):
        monkeypatch.setenv(f"CIFAR10_{name}", "mine")
    assert main(["check"]) == 0
    assert capsys.readouterr().err == "warning: CIFAR10_MODELNAME is not a setting; did you mean CIFAR10_MODEL_NAME?\n"


@pytest.mark.parametrize(
    "command", [["check"], ["classify", str(ROOT / "docs" / "cat.png")]], ids=["check", "classify"]
)
def test_a_removed_setting_is_named_and_ignored(capsys, monkeypatch, command):
    monkeypatch.setenv("CIFAR10_MAX_BATCH", "a few")
    monkeypatch.setenv("CIFAR10_MAX_WAITING_IMAGES", "100")
    assert main(command) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: CIFAR10_MAX_BATCH is no longer a setting, because the service chooses the batch size itself; "
        "unset it",
        "warning: CIFAR10_MAX_WAITING_IMAGES is no longer a setting, because the service limits its queue itself; "
        "unset it",
    ]


def test_a_setting_that_is_empty_counts_as_unset(monkeypatch):
    expected = Settings()
    for variable in (*variables().values(), "PORT"):
        monkeypatch.setenv(variable, "")
    assert Settings() == expected


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({}, 8000),
        ({"PORT": "9000"}, 9000),
        ({"CIFAR10_BIND_PORT": "9001", "PORT": "9000"}, 9001),
        ({"CIFAR10_BIND_PORT": "", "PORT": "9000"}, 9000),
        ({"CIFAR10_PORT": "tcp://10.0.0.1:8000", "CIFAR10_SERVICE_PORT": "8000"}, 8000),
    ],
    ids=["default", "platform", "both", "empty", "kubernetes"],
)
def test_the_port_is_that_of_the_service_else_the_platforms(capsys, monkeypatch, environment, port):
    for variable in ("PORT", "CIFAR10_BIND_PORT"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert Settings().bind_port == port
    assert list(environment_warnings()) == []


def test_a_wrong_port_of_the_platform_is_named(capsys, monkeypatch):
    monkeypatch.delenv("CIFAR10_BIND_PORT", raising=False)
    monkeypatch.setenv("PORT", "tcp://10.0.0.1:8000")
    for command in ("check", "serve"):
        assert main([command]) == 2
        assert capsys.readouterr().err.startswith("error: PORT is 'tcp://10.0.0.1:8000'")
    monkeypatch.setenv("CIFAR10_BIND_PORT", "http")
    assert main(["check"]) == 2
    assert capsys.readouterr().err.startswith("error: CIFAR10_BIND_PORT is 'http'")


def test_a_port_of_the_platform_that_is_not_used_does_not_matter(capsys, monkeypatch):
    monkeypatch.setenv("PORT", "tcp://10.0.0.1:8000")
    monkeypatch.delenv("CIFAR10_BIND_PORT", raising=False)
    assert main(["classify", str(ROOT / "docs" / "cat.png")]) == 0
    monkeypatch.setenv("CIFAR10_BIND_PORT", "9000")
    assert main(["check"]) == 0
    assert "CIFAR10_BIND_PORT=9000" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["*", "10.0.0.0/8, ::1,192.168.1.1"])
def test_proxies_are_addresses_and_networks(capsys, monkeypatch, value):
    monkeypatch.setenv("CIFAR10_TRUSTED_PROXIES", value)
    assert main(["check"]) == 0
    assert f"CIFAR10_TRUSTED_PROXIES={value}\n" in capsys.readouterr().out


def test_origins_and_hosts_are_written_as_browsers_send_them():
    settings = Settings(allowed_origins="https://Example.org:443, http://a.example:80,http://b.example:8080,")
    assert settings.origins == {"https://example.org", "http://a.example", "http://b.example:8080"}
    assert Settings(allowed_hosts="Example.org, *.example.org,[::1]").hosts == {"example.org", "*.example.org", "[::1]"}


def test_limits_of_the_service_are_shared_out():
    settings = Settings(max_requests=100, decode_threads=2, max_files=100)
    assert settings.limits(8, 8_000_000_000) == Limits(
        max_requests=13,
        decode_threads=1,
        max_waiting_images=256,
        image_bytes=744_000_000,
        memory_bytes=8_000_000_000,
    )
    assert settings.limits(1, 512_000_000) == Limits(
        max_requests=100,
        decode_threads=2,
        max_waiting_images=2_048,
        image_bytes=256_000_000,
        memory_bytes=512_000_000,
    )


def test_each_process_has_room_for_one_whole_batch_request():
    assert Settings(max_files=256).limits(64, 1_000_000_000).max_waiting_images == 256
    assert Settings(max_files=3_000).limits(64, 1_000_000_000).max_waiting_images == 2_048


@pytest.mark.parametrize(("value", "directory"), [("metrics", Path("metrics")), ("", None)], ids=["named", "empty"])
def test_the_metrics_directory_is_set_by_the_variable_of_prometheus_client(monkeypatch, capsys, value, directory):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", value)
    assert Settings().metrics_directory == directory
    assert main(["check"]) == 0
    assert f"\nPROMETHEUS_MULTIPROC_DIR={value}\n" in capsys.readouterr().out


def test_the_memory_can_be_set():
    assert Settings(max_memory_mb=2_000).limits(2, 512_000_000).image_bytes == 744_000_000


def test_where_a_process_has_what_it_is_started_for_a_body_of_the_usual_limit_fits():
    settings = Settings()
    assert settings.limits(1, PROCESS_BYTES).image_bytes >= 2 * BODY_COPIES * settings.max_body_bytes


def test_where_memory_is_short_images_have_a_quarter_of_it():
    assert Settings().limits(1, 256_000_000).image_bytes == 64_000_000
