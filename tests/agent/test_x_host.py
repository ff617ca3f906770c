"""An agent whose sessions run on X servers of its own, from its file to a person's screen."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker_stub.agent import x_host
from broker_stub.agent.entrance_certificate import own_certificate
from broker_stub.agent.settings import AgentSettings, load_settings
from broker_stub.agent.x_programs import PROGRAMS, ServerKind
from tests.agent.x_sessions import needs_xvnc

BASE = "version = '0.1'\n[agent]\nbroker_host = '127.0.0.1'\n"


def settings(tmp_path: Path, **sections: str) -> AgentSettings:
    """Settings from a file that has these sections besides its first one."""
    path = tmp_path / "agent.conf"
    told = {"state": "directory = '/var/lib/agent'"} | sections
    path.write_text(BASE + "".join(f"[{name}]\n{text}\n" for name, text in told.items()))
    return load_settings(path).settings


def without_programs(monkeypatch: pytest.MonkeyPatch, *kinds: ServerKind) -> None:
    found = dict(PROGRAMS)
    for kind in kinds:
        found[kind] = type(found[kind])(found[kind].title, (), found[kind].package)
    monkeypatch.setattr(x_host, "PROGRAMS", found)


def test_the_server_people_can_connect_to_is_taken_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert x_host.server_kind(settings(tmp_path, backend="type = 'xvfb'")) is ServerKind.XVFB
    assert x_host.server_kind(settings(tmp_path, backend="type = 'xvnc'")) is ServerKind.XVNC
    without_programs(monkeypatch, ServerKind.XVNC)
    assert x_host.server_kind(settings(tmp_path)) is ServerKind.XVFB


def test_a_missing_server_is_one_sentence_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_programs(monkeypatch, *ServerKind)
    for kind, package in (("xvfb", "xvfb"), ("xvnc", "tigervnc-standalone-server")):
        (problem,) = x_host.problems(settings(tmp_path, backend=f"type = '{kind}'"))
        assert f"apt-get install {package} xterm" in problem


@needs_xvnc
def test_what_the_entrance_cannot_work_with_is_said_before_the_start(tmp_path: Path) -> None:
    half = settings(tmp_path, entrance="certificate_file = '/etc/x.pem'")
    assert "belong together" in "".join(x_host.problems(half))
    wrong = tmp_path / "x.pem"
    wrong.write_text("no certificate")
    told = f"certificate_file = '{wrong}'\nkey_file = '{wrong}'"
    assert "cannot be used with its key" in "".join(x_host.problems(settings(tmp_path, entrance=told)))
    deep = settings(tmp_path, state=f"directory = '{tmp_path / ('d' * 80)}'")
    assert "bytes too long" in "".join(x_host.problems(deep))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may become anybody")
def test_becoming_the_owner_needs_root(tmp_path: Path) -> None:
    told = settings(tmp_path, backend="session_user_mode = 'setuid'")
    assert "runs as root" in "".join(x_host.problems(told))


def test_the_hosts_own_certificate_stays_until_its_names_change(tmp_path: Path) -> None:
    now = datetime(2026, 3, 30, tzinfo=UTC)
    certificate, key = own_certificate(tmp_path, ["host", "198.18.0.1"], now)
    assert key.stat().st_mode & 0o777 == 0o600
    first = certificate.read_bytes()
    own_certificate(tmp_path, ["host", "198.18.0.1"], now + timedelta(days=700))
    assert certificate.read_bytes() == first
    own_certificate(tmp_path, ["host", "198.18.0.1"], now + timedelta(days=800))
    second = certificate.read_bytes()
    assert second != first
    own_certificate(tmp_path, ["host", "198.18.0.2"], now + timedelta(days=800))
    assert certificate.read_bytes() != second
