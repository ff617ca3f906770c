"""`agent.conf`: what loads, what is refused, and that all mistakes are said at once."""

from pathlib import Path
from typing import Any

import pytest

from broker_stub.agent.settings import AgentSettings, Loaded, SettingsError, load_settings


def load(tmp_path: Path, text: str) -> Loaded:
    path = tmp_path / "agent.conf"
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    return str(caught.value)


LINUX = """
version = '0.1'
[agent]
broker_host = 'broker.example.com'
broker_port = 8445
ca_file = '/etc/dcv-session-manager-agent/dcvsmbroker_ca.pem'
tls_strict = true
tags_folder = '/etc/dcv-session-manager-agent/tags/'
broker_update_interval = 15
[log]
level = 'debug'
rotation = 'daily'
directory = "/var/log/dcv-session-manager-agent/"
"""
WINDOWS_STYLE = """
version = "0.1"
[agent]
broker_host = "broker.example.com"
tls_strict = false
init_folder = '/srv/init'
[log]
rotation = 5
max-file-size = 2048
"""


@pytest.mark.covers("G1")
def test_files_of_public_installers_load(tmp_path: Path) -> None:
    """The files that public installers write, for Linux and Windows and with either kind of quotes, are
    read as they are."""
    linux = load(tmp_path, LINUX)
    assert linux.warnings == []
    assert linux.settings.agent.broker_host == "broker.example.com"
    assert linux.settings.agent.broker_update_interval == 15
    assert linux.settings.log.level == "debug"
    other = load(tmp_path, WINDOWS_STYLE)
    assert other.settings.log.rotation == 5
    assert other.settings.log.max_file_size == 2048
    assert other.warnings == ["agent.tls_strict is false: the broker's certificate is not checked."]


@pytest.mark.covers("G1")
def test_a_missing_version_only_warns(tmp_path: Path) -> None:
    """A file without its version is read with a warning."""
    loaded = load(tmp_path, "[agent]\nbroker_host = 'b'\nca_file = '/ca.pem'\n")
    assert loaded.warnings == ["version is missing; '0.1' is assumed."]


@pytest.mark.covers("G3")
def test_defaults_are_those_of_the_original(tmp_path: Path) -> None:
    """A key that is not set has the value that the original agent gives it."""
    settings = load(tmp_path, "version = '0.1'\n[agent]\nbroker_host = 'b'\n").settings
    agent, log = settings.agent, settings.log
    found: dict[str, Any] = {
        "broker_port": agent.broker_port,
        "tls_strict": agent.tls_strict,
        "ca_file": agent.ca_file,
        "tags_folder": str(agent.tags_folder),
        "init_folder": str(agent.init_folder),
        "autorun_folder": str(agent.autorun_folder),
        "max_virtual_sessions": agent.max_virtual_sessions,
        "max_concurrent_sessions_per_user": agent.max_concurrent_sessions_per_user,
        "broker_update_interval": agent.broker_update_interval,
        "enable_query_logged_in_users": agent.enable_query_logged_in_users,
        "dcv_root": str(agent.dcv_root),
        "level": log.level,
        "directory": str(log.directory),
        "rotation": log.rotation,
        "max_file_size": log.max_file_size,
        "geometry": settings.backend.geometry,
        "state": str(settings.state.directory),
    }
    assert found == {
        "broker_port": 8445,
        "tls_strict": True,
        "ca_file": None,
        "tags_folder": "/etc/dcv-session-manager-agent/tags",
        "init_folder": "/var/lib/dcv-session-manager-agent/init",
        "autorun_folder": "/var/lib/dcv-session-manager-agent/autorun",
        "max_virtual_sessions": -1,
        "max_concurrent_sessions_per_user": 1,
        "broker_update_interval": 30,
        "enable_query_logged_in_users": True,
        "dcv_root": "/usr/bin/dcv",
        "level": "info",
        "directory": "/var/log/dcv-session-manager-agent",
        "rotation": "daily",
        "max_file_size": 10_485_760,
        "geometry": (1280, 720),
        "state": "/var/lib/dcv-session-manager-agent/state",
    }


@pytest.mark.covers("G2")
def test_all_mistakes_are_said_together_with_their_lines(tmp_path: Path) -> None:
    """Every mistake of a file is named with its line, all at once."""
    said = problems(
        tmp_path,
        "version = '0.2'\n"
        "[agent]\n"
        "broker_host = ' '\n"
        "broker_port = '8445'\n"
        "  max_virtual_sessions=-2\n"
        "tags_folder = 'tags'\n"
        "[log]\n"
        "level = 'loud'\n"
        "rotation = 'weekly'\n"
        "[backend]\n"
        "geometry = 'huge'\n",
    )
    lines = said.splitlines()
    assert len(lines) == 8
    for place in (
        "version is '0.2'",
        "agent.broker_host (line 3)",
        "agent.broker_port (line 4)",
        "agent.max_virtual_sessions (line 5)",
        "agent.tags_folder (line 6): must be an absolute path",
        "log.level (line 8)",
        "log.rotation (line 9)",
        "backend.geometry (line 11): must be a size such as 1280x720",
    ):
        assert any(place in line for line in lines), place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = '0.1'\n", "agent.broker_host is missing"),
        ("version = '0.1'\n[agent]\nbroker_host = ''\n", "must not be empty"),
        ("version = '0.1'\nagent = 5\n", "agent (line 2)"),
        ("version = '0.1'\nagent.broker_host = 'b'\nagent.broker_port = 0\n", "agent.broker_port (line 3)"),
        ("version = '0.1'\n[agent\n", "is not TOML"),
        ("version = '0.1'\n[agent]\nbroker_host = 'b'\ntls_strict = 1\n", "agent.tls_strict (line 4)"),
        ("version = '0.1'\n[agent]\nbroker_host = 'b'\nbroker_update_interval = 30.0\n", "(line 4)"),
    ],
)
def test_each_mistake_has_its_sentence(tmp_path: Path, text: str, said: str) -> None:
    assert said in problems(tmp_path, text)


@pytest.mark.covers("G2")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A file that is missing or not readable is named in the error."""
    with pytest.raises(SettingsError, match=r"nowhere\.conf cannot be read"):
        load_settings(tmp_path / "nowhere.conf")


def test_what_is_unknown_warns_with_the_nearest_name(tmp_path: Path) -> None:
    text = (
        "version = '0.1'\n[agent]\nbroker_host = 'b'\nca_file = '/ca'\nbroker_prot = 1\n[logs]\nlevel = 'x'\n"
    )
    assert load(tmp_path, text).warnings == [
        "agent.broker_prot is unknown; did you mean broker_port?",
        "logs is unknown; did you mean log?",
    ]


def test_both_spellings_of_the_file_size_are_known(tmp_path: Path) -> None:
    start = "version = '0.1'\n[agent]\nbroker_host = 'b'\nca_file = '/ca'\n[log]\n"
    for key in ("max_file_size", "max-file-size"):
        loaded = load(tmp_path, f"{start}{key} = 4096\n")
        assert (loaded.settings.log.max_file_size, loaded.warnings) == (4096, [])


def test_endpoints_are_checked_like_everything_else(tmp_path: Path) -> None:
    start = "version = '0.1'\n[agent]\nbroker_host = 'b'\n[[server.endpoints]]\n"
    (endpoint,) = load(tmp_path, start + "port = 443\n").settings.server.endpoints or []
    assert (endpoint.port, endpoint.protocol, endpoint.web_url_path) == (443, "HTTP", "/")
    assert "server.endpoints" in problems(tmp_path, start + "port = 443\nprotocol = 'SMTP'\n")


def test_a_statement_is_read_from_its_file_and_kept_out_of_sight(tmp_path: Path) -> None:
    statement = tmp_path / "statement"
    statement.write_text("  c2VjcmV0\n")
    text = f"version = '0.1'\n[agent]\nbroker_host = 'b'\nsoftware_statement_path = '{statement}'\n"
    loaded = load(tmp_path, text)
    assert loaded.statement == "c2VjcmV0"
    assert "c2VjcmV0" not in repr(loaded)
    statement.unlink()
    assert "software_statement_path" in problems(tmp_path, text)
    statement.write_text(" ")
    assert "is empty" in problems(tmp_path, text)


def test_slow_reports_warn(tmp_path: Path) -> None:
    text = "version = '0.1'\n[agent]\nbroker_host = 'b'\nca_file = '/ca'\nbroker_update_interval = 121\n"
    (warning,) = load(tmp_path, text).warnings
    assert "121" in warning


def test_every_key_has_its_documentation() -> None:
    source = Path(load_settings.__code__.co_filename).read_text(encoding="utf-8")
    for section in AgentSettings.model_fields.values():
        model: Any = section.annotation
        for name in model.model_fields:
            _, _, rest = source.partition(f"    {name}: ")
            assert '    """' in rest.split("\n\n")[0], name
