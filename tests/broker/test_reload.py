"""A running broker reads its file again: what it takes over, what waits for a restart, what it refuses."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker_stub.broker.events import RulesChanged
from broker_stub.broker.reload import reload
from broker_stub.broker.service import Broker
from broker_stub.broker.settings_file import Loaded, SettingsError, load_values
from broker_stub.broker.settings_keys import FIELDS, LIVE_KEYS
from tests.broker_process import broker_process, write_config
from tests.hosts import B, running_hosts
from tests.running import RunningBroker, broker_values, running_broker

QUEUED = {"Name": "n", "Owner": "alice", "Type": "VIRTUAL", "EnqueueRequest": True}


def changed_to(broker: RunningBroker, tmp_path: Path, **settings: Any) -> Broker:
    """Let the broker read other values the next time."""

    def reread() -> Loaded:
        return load_values(broker_values(tmp_path / "broker", **settings))

    broker.broker._reread = reread
    return broker.broker


def test_live_keys_are_taken_over_and_the_others_named() -> None:
    current = load_values({"session-manager-working-path": "/srv/a"}).settings
    wanted = load_values(
        {
            "session-manager-working-path": "/srv/a",
            "max-api-requests-per-second": "7",
            "session-screenshot-format": "jpeg",
            "client-to-broker-connector-https-port": "9443",
            "enable-authorization": "false",
        }
    ).settings
    found = reload(current, wanted)
    assert found.changed == ("max-api-requests-per-second", "session-screenshot-format")
    assert found.needs_restart == ("client-to-broker-connector-https-port", "enable-authorization")
    assert found.settings.client.max_requests_per_second == 7
    assert found.settings.client.https_port == 8443
    assert found.settings.authorization.enable_authorization
    assert reload(found.settings, wanted).changed == ()


def test_the_keys_that_change_while_it_runs_are_the_documented_ones() -> None:
    assert sum(not key.startswith("ext-") for key in LIVE_KEYS) == 16
    assert FIELDS.keys() | {"delete-session-duration-hours"} >= LIVE_KEYS


async def test_what_is_taken_over_counts_at_once(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        assert (await broker.client.get("/dcv-session-manager-api.yaml")).status_code == 200
        served = changed_to(
            broker,
            tmp_path,
            enable_api_yaml="false",
            max_api_requests_per_second=3,
            create_sessions_queue_max_size=1,
            connect_session_token_duration_minutes=7,
            session_screenshot_max_width=55,
            ext_access_token_duration_seconds=9,
            ext_external_auth_required_scopes="a, b",
        )
        await served.reload()
        assert served.tokens.connection_token_s == 420
        assert served.tokens.issue_access("x")[1] == 9
        assert served.external.demands.scopes == ("a", "b")
        assert served.operations.screenshots.max_width == 55
        answer = (await broker.client.post("/createSessions", json=[QUEUED, QUEUED])).json()
        assert (len(answer["SuccessfulList"]), len(answer["UnsuccessfulList"])) == (1, 1)
        assert (await broker.client.get("/dcv-session-manager-api.yaml")).status_code == 404
        statuses = [(await broker.client.post("/describeServers")).status_code for _ in range(9)]
        assert 429 in statuses


async def test_shorter_times_end_what_is_waiting(tmp_path: Path) -> None:
    async with running_broker(tmp_path, rules={"startup_grace_s": 0}) as broker:
        created = (await broker.client.post("/createSessions", json=[QUEUED, QUEUED])).json()
        first, second = (session["Id"] for session in created["SuccessfulList"])
        await broker.client.post("/deleteSessions", json=[{"SessionId": first, "Owner": "alice"}])
        registry = broker.broker.registry
        assert registry.session(first)
        served = changed_to(
            broker, tmp_path, delete_session_duration_seconds=0, create_sessions_queue_max_time_seconds=1
        )
        await served.reload()
        await broker.until(lambda: registry.session(first) is None)
        await broker.until(lambda: registry.session(second) is None)


async def test_a_shorter_patience_with_lost_servers_counts_for_those_already_lost(tmp_path: Path) -> None:
    rules = {"agent_loss_grace_s": 0, "startup_grace_s": 0}
    async with running_broker(tmp_path, rules=rules) as broker:
        async with running_hosts(broker, B):
            await broker.until(lambda: broker.broker.registry.counts()["servers_available"])
        await broker.until(lambda: not broker.broker.registry.counts()["servers_available"])
        assert broker.broker.registry.counts()["servers"] == 1
        shorter = replace(broker.broker._rules, unreachable_server_kept_s=0)
        await broker.broker.coordinator.apply(RulesChanged(shorter))
        await broker.until(lambda: not broker.broker.registry.counts()["servers"])


async def test_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        changed_to(broker, tmp_path, enable_api_yaml="false", max_api_requests_per_second=0)
        with pytest.raises(SettingsError, match="max-api-requests-per-second"):
            await broker.broker.reload()
        assert (await broker.client.get("/dcv-session-manager-api.yaml")).status_code == 200


async def test_sighup_reads_the_file_again(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with broker_process(config) as broker, broker.client() as client:

        async def definition() -> httpx.Response:
            return await client.get("/dcv-session-manager-api.yaml")

        assert (await definition()).status_code == 200
        config.write_text(config.read_text() + "enable-api-yaml = false\nenable-authorization = false\n")
        broker.process.send_signal(signal.SIGHUP)
        while (await definition()).status_code == 200:
            pass
        assert (await client.post("/describeServers")).status_code == 401, "this needs a restart"
        log = ""
        while "A restart is needed" not in log:  # it is said after it is so
            log = await asyncio.to_thread((tmp_path / "broker" / "log" / "broker.log").read_text)
        assert "Taken over from the configuration file: enable-api-yaml." in log
        assert "A restart is needed for: enable-authorization." in log
        config.write_text("max-api-requests-per-second = none\n")
        broker.process.send_signal(signal.SIGHUP)
        while "The configuration stays as it was" not in (tmp_path / "broker/log/broker.log").read_text():
            assert (await client.get("/health")).status_code == 200
        assert await broker.stop() == 0
