"""Agents on a real broker: what an operator asks for happens on the host, once, whatever breaks."""

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker_stub.agent.access import BrokerAccess, BrokerAddress
from broker_stub.agent.backend import SessionInfo, SessionSpec
from broker_stub.agent.conversation import Pace
from broker_stub.agent.service import run_agents
from broker_stub.channel_messages import Name
from dcvtui.api.states import SessionType
from tests.agent.relay import relay_to
from tests.agent.small_host import SmallHost, access_to, until, until_async
from tests.broker.raw_agent import create, servers, sessions
from tests.running import RunningBroker, running_broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path, rules={"agent_loss_grace_s": 0.3}) as running:
        yield running


@pytest.fixture
def host(broker: RunningBroker) -> SmallHost:
    return SmallHost(access_to(broker.agent_url, broker.ca_file))


async def until_state(broker: RunningBroker, session_id: str, state: str) -> dict[str, Any]:
    async def is_so() -> bool:
        return bool((await sessions(broker)).get(session_id, {}).get("State") == state)

    await until_async(is_so)
    found: dict[str, Any] = (await sessions(broker))[session_id]
    return found


async def until_server(broker: RunningBroker, **members: Any) -> dict[str, Any]:
    async def is_so() -> bool:
        server = (await servers(broker)).get("server-1", {})
        return all(server.get(name) == value for name, value in members.items())

    await until_async(is_so)
    found: dict[str, Any] = (await servers(broker))["server-1"]
    return found


# ------------------------------------------------------------------ the normal path


async def test_the_whole_life_of_a_session(broker: RunningBroker, host: SmallHost) -> None:
    permissions = "[permissions]\n%owner% allow display\n"
    encoded = base64.b64encode(permissions.encode()).decode()
    async with host.running():
        (session_id,) = await create(broker, Name="mine", MaxConcurrentClients=3, PermissionsFile=encoded)
        shown = await until_state(broker, session_id, "READY")
        assert shown["Server"]["Id"] == "server-1"
        (spec,) = host.backend.specs
        assert (spec.session_id, spec.name, spec.owner) == (session_id, "mine", "ana")
        assert (spec.type, spec.max_concurrent_clients) == (SessionType.VIRTUAL, 3)
        assert spec.permissions == permissions

        about = {"SessionId": session_id}
        answer = (await broker.client.post("/getSessionScreenshots", json=[about])).json()
        (image,) = answer["SuccessfulList"][0]["SessionScreenshot"]["Images"]
        assert base64.b64decode(image["Data"]) == host.backend.picture

        update = {**about, "Owner": "ana", "PermissionsFile": "Cg=="}
        answer = (await broker.client.put("/sessionPermissions", json=[update])).json()
        assert answer["SuccessfulList"] == [about], answer
        assert host.backend.permissions == {session_id: "\n"}

        answer = (await broker.client.post("/deleteSessions", json=[{**about, "Owner": "ana"}])).json()
        assert answer["SuccessfulList"][0]["State"] == "DELETING"
        await until_state(broker, session_id, "DELETED")
        assert host.backend.sessions == {}
    # The agent does not wait until its goodbye was read; that it counts at once is a test of the listener.
    await until_server(broker, UnavailabilityReason="UNREACHABLE_AGENT")


@pytest.mark.covers("G8", "G10")
async def test_everything_an_agent_knows_is_shown(broker: RunningBroker, host: SmallHost) -> None:
    """What an agent knows of its host is in DescribeServers: address, names, endpoints, operating system,
    and the administrator's tags beside the three reserved ones."""
    async with host.running():
        server = (await servers(broker))["server-1"]
    assert (server["Ip"], server["Hostname"]) == ("198.18.0.1", "host-1")
    assert server["Endpoints"][0]["IpAddress"] == "198.18.0.1"
    assert server["Host"]["Os"]["Family"] == "linux"
    tags = {tag["Key"]: tag["Value"] for tag in server["Tags"]}
    assert tags == {
        "color": "blue",
        "dcv:os-family": "linux",
        "dcv:max-virtual-sessions": "-1",
        "dcv:max-concurrent-sessions-per-user": "10",
    }


@pytest.mark.covers("G11", "G12")
async def test_what_happens_on_the_host_shows_within_two_seconds(
    broker: RunningBroker, host: SmallHost
) -> None:
    """A session that begins or ends on its host is in the API within two seconds, however long the
    interval of reports is."""
    host.pace = Pace(update_interval_s=3600)
    async with host.running():
        clock, shown, gone = asyncio.get_running_loop().time, [], []
        for name in ("first", "second", "third"):
            begun = clock()
            host.backend.appear(name)
            await until_state(broker, name, "READY")
            shown.append(clock() - begun)
            begun = clock()
            host.backend.disappear(name)
            await until_state(broker, name, "DELETED")
            gone.append(clock() - begun)
    # The quickest of three: a busy machine holds up one of them, a wait for the interval all.
    assert max(min(shown), min(gone)) < 2


async def test_a_session_that_ends_before_it_was_reported_is_not_taken_for_alive(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a result has told the broker counts as told: the next report says that it is gone."""
    host = SmallHost(access_to(broker.agent_url, broker.ca_file), pace=Pace(update_interval_s=60))
    usual = host.backend.create

    async def and_gone(spec: SessionSpec) -> SessionInfo:
        info = await usual(spec)
        host.backend.disappear(spec.session_id)
        return info

    monkeypatch.setattr(host.backend, "create", and_gone)
    async with host.running():
        (session_id,) = await create(broker)
        await until_state(broker, session_id, "DELETED")


async def test_a_new_session_is_not_given_up_because_its_host_cannot_be_looked_at(
    broker: RunningBroker, host: SmallHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list from before a session was made, kept because looking fails, does not say that it is gone."""
    usual = host.backend.create

    async def and_silent(spec: SessionSpec) -> SessionInfo:
        info = await usual(spec)
        host.backend.is_listable = False
        return info

    monkeypatch.setattr(host.backend, "create", and_silent)
    async with host.running():
        (session_id,) = await create(broker)
        await until_state(broker, session_id, "UNKNOWN")
        host.backend.is_listable = True
        await until_state(broker, session_id, "READY")


@pytest.mark.covers("G9")
async def test_changed_tags_and_metrics_show_within_an_interval(
    broker: RunningBroker, host: SmallHost
) -> None:
    """A changed tag and a changed load show within one interval of reports, without a restart."""
    async with host.running():
        host.tags["color"] = "red"
        host.facts.load = 3.5

        async def is_shown() -> bool:
            server = (await servers(broker))["server-1"]
            return {"Key": "color", "Value": "red"} in server["Tags"] and (
                server["Host"]["CpuLoadAverage"]["OneMinute"] == 3.5
            )

        await until_async(is_shown, 3)


@pytest.mark.covers("G6")
async def test_the_documented_words_are_in_the_log(
    broker: RunningBroker, host: SmallHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Each report that the broker has taken leaves a line with the two words that the installation guide
    has administrators look for."""
    caplog.set_level(logging.INFO, "broker_stub.agent")
    async with host.running():
        await until(
            lambda: any("sessionsUpdateResponse" in one and "success" in one for one in caplog.messages)
        )


async def test_a_refused_creation_says_why(broker: RunningBroker, host: SmallHost) -> None:
    async with host.running():
        (session_id,) = await create(broker, Owner="nobody", DisableRetryOnFailure=True)
        shown = await until_state(broker, session_id, "UNKNOWN")
        assert shown["StateReason"] == "Specified user is not a local user"


@pytest.mark.covers("G18")
async def test_a_large_picture_arrives_whole(broker: RunningBroker, host: SmallHost) -> None:
    """A screenshot too large for one message arrives at the API byte for byte."""
    host.backend.picture = bytes(range(256)) * 8000
    host.backend.appear("a")
    async with host.running():
        answer = (await broker.client.post("/getSessionScreenshots", json=[{"SessionId": "a"}])).json()
        (image,) = answer["SuccessfulList"][0]["SessionScreenshot"]["Images"]
        assert base64.b64decode(image["Data"]) == host.backend.picture


# ------------------------------------------------------------------ what breaks


@pytest.mark.covers("G20")
async def test_a_killed_agent_is_missed_and_its_sessions_are_found_again(broker: RunningBroker) -> None:
    """A killed agent says no goodbye, as a host that loses its power: after the grace time its server is
    unreachable and its sessions are UNKNOWN; when it is back they are READY."""
    async with relay_to(broker) as (relay, access):
        host = SmallHost(access)
        relay.loses = lambda name: name == Name.AGENT_GOODBYE
        async with host.running():
            (session_id,) = await create(broker)
            await until_state(broker, session_id, "READY")
        await until_server(broker, UnavailabilityReason="UNREACHABLE_AGENT")
        assert (await sessions(broker))[session_id]["State"] == "UNKNOWN"
        async with host.running():
            await until_state(broker, session_id, "READY")
            await until_server(broker, Availability="AVAILABLE")


@pytest.mark.covers("G29")
async def test_a_lost_acknowledgement_leads_to_a_second_sending_and_one_call(broker: RunningBroker) -> None:
    """A command whose acknowledgement is lost is sent again under the same id, and the host does its work
    once."""
    async with relay_to(broker) as (relay, access):
        host = SmallHost(access)
        host.backend.go_on.clear()
        lost: list[str] = []

        def loses(name: str) -> bool:
            is_first = name == Name.COMMAND_ACK and not lost
            if is_first:
                lost.append(name)
            return is_first

        relay.loses = loses
        async with host.running():
            (session_id,) = await create(broker)
            await until(lambda: relay.passed.count(Name.COMMAND_ACK) == 1, 8)
            host.backend.go_on.set()
            await until_state(broker, session_id, "READY")
        assert relay.passed.count(Name.COMMAND_REQUEST) == 2
        assert host.backend.calls == ["create"]


@pytest.mark.covers("G30")
async def test_a_result_that_was_lost_with_the_channel_arrives_later(broker: RunningBroker) -> None:
    """A result that is lost with its channel arrives over the next one, and the session ends as READY.
    Nothing but the result tells it here: reports of sessions are held back."""
    async with relay_to(broker) as (relay, access):
        host = SmallHost(access)
        results: list[str] = []

        def loses(name: str) -> bool:
            if name == Name.COMMAND_RESULT and not results:
                results.append(name)
                return True
            return False

        relay.loses = loses
        async with host.running():
            (session_id,) = await create(broker, Owner="nobody", DisableRetryOnFailure=True)
            await until(lambda: results)
            assert (await sessions(broker))[session_id]["State"] == "CREATING"
            relay.cut()
            shown = await until_state(broker, session_id, "UNKNOWN")
            assert shown["StateReason"] == "Specified user is not a local user"
            await until(lambda: Name.COMMAND_RESULT_ACK in relay.passed)
        assert host.backend.calls == ["create"]


@pytest.mark.covers("G32")
async def test_an_agent_killed_during_a_creation_never_makes_two_sessions(broker: RunningBroker) -> None:
    """An agent that is killed while it creates a session: after its restart there is one session, and it
    is READY."""
    host = SmallHost(access_to(broker.agent_url, broker.ca_file))
    host.backend.go_on.clear()
    async with host.running():
        (session_id,) = await create(broker)
        await until(lambda: host.backend.calls == ["create"])
    host.backend.go_on.set()
    async with host.running():
        await until_state(broker, session_id, "READY")
    assert list(host.backend.sessions) == [session_id]


@pytest.mark.covers("G21")
async def test_a_dead_dcv_server_shows_after_two_looks_and_recovers(
    broker: RunningBroker, host: SmallHost
) -> None:
    """After two failed looks in a row the server is unhealthy and its sessions are UNKNOWN; one good look
    makes all well again."""
    host.backend.appear("a")
    async with host.running():
        host.backend.is_listable = False
        await until_server(broker, UnavailabilityReason="UNHEALTHY_DCV_SERVER")
        assert (await sessions(broker))["a"]["State"] == "UNKNOWN"
        host.backend.is_listable = True
        await until_server(broker, Availability="AVAILABLE")
        await until_state(broker, "a", "READY")


async def test_an_agent_that_cannot_look_deletes_nothing(broker: RunningBroker, host: SmallHost) -> None:
    host.backend.appear("a")
    async with host.running():
        await until_state(broker, "a", "READY")
    host.backend.is_listable = False
    async with host.running():
        await until_server(broker, UnavailabilityReason="UNHEALTHY_DCV_SERVER")
        assert (await sessions(broker))["a"]["State"] == "UNKNOWN"


@pytest.mark.covers("G23")
async def test_reasons_of_a_windows_server(broker: RunningBroker, host: SmallHost) -> None:
    """A Windows server is unavailable while somebody is logged in outside a session, and full when it has
    its one console session."""
    host.facts.family = "windows"
    host.facts.has_user = True
    async with host.running():
        await until_server(broker, UnavailabilityReason="EXISTING_LOGGED_IN_USER")
        host.facts.has_user = False
        host.backend.appear("console", type=SessionType.CONSOLE)
        await until_server(broker, UnavailabilityReason="SERVER_FULL")


# ------------------------------------------------------------------ identity and credentials


@pytest.mark.covers("G34")
async def test_a_copied_host_takes_a_new_id_and_leaves_the_original_alone(
    broker: RunningBroker, host: SmallHost
) -> None:
    """A clone that comes under its original's id gets an id of its own; the original stays available and
    its channel open."""
    copy = SmallHost(host.access)
    copy.identity = replace(host.identity, fingerprint="another machine", epoch=7)
    async with host.running() as original, copy.running():
        shown = await servers(broker)
        assert len(shown) == 2
        assert shown["server-1"]["Availability"] == "AVAILABLE"
        assert original.is_connected


@pytest.mark.covers("G7")
async def test_a_host_that_changed_its_address_keeps_its_sessions_and_stays_closed(
    broker: RunningBroker, host: SmallHost
) -> None:
    """A host whose address changed comes under a new id with its sessions; its old record goes, and a
    closed server stays closed."""
    host.backend.appear("a")
    async with host.running():
        await broker.client.post("/closeServers", json=[{"ServerId": "server-1", "Force": True}])
        await until_server(broker, UnavailabilityReason="SERVER_CLOSED")
    host.identity = replace(host.identity, server_id="server-9", previous_server_id="server-1")
    async with host.running():
        shown = await servers(broker)
        assert set(shown) == {"server-9"}
        assert shown["server-9"]["UnavailabilityReason"] == "SERVER_CLOSED"
        assert (await sessions(broker))["a"]["Server"]["Id"] == "server-9"


async def test_an_agent_whose_registration_is_gone_registers_again(
    broker: RunningBroker, host: SmallHost
) -> None:
    agents = broker.broker.tokens.agents
    async with host.running():
        (first,) = agents.all()
    await agents.unregister(first.client_id)
    async with host.running() as agent:
        assert agent.is_connected
    assert agents.active_count == 1
    assert len(agents.all()) == 2


async def test_agents_of_one_process_share_one_registration(broker: RunningBroker) -> None:
    access = access_to(broker.agent_url, broker.ca_file)
    agents = [SmallHost(access, number).agent() for number in range(1, 21)]
    async with asyncio.timeout(20):
        fleet = asyncio.create_task(run_agents(agents, spread_s=0.2))
        await until(lambda: all(agent.is_connected for agent in agents))
        assert len(await servers(broker)) == 20
        for agent in agents:
            agent.stop()
        await fleet
    assert broker.broker.tokens.agents.active_count == 1


# ------------------------------------------------------------------ trust


async def first_warning(access: BrokerAccess, caplog: pytest.LogCaptureFixture) -> str:
    """What an agent says that does not get in."""

    def said() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.name == "broker_stub.agent.service"]

    agent = SmallHost(access).agent()
    task = asyncio.create_task(agent.run())
    try:
        await until(said)
        return said()[0]
    finally:
        agent.stop()
        await task


@pytest.mark.covers("G4")
async def test_a_foreign_ca_is_not_trusted_and_the_agent_says_so(
    broker: RunningBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An agent that trusts another CA does not connect, and its log says that the broker's certificate is
    not trusted."""
    caplog.set_level(logging.WARNING, "broker_stub.agent")
    async with running_broker(tmp_path / "other") as other:
        foreign = other.ca_file
        said = await first_warning(access_to(broker.agent_url, foreign), caplog)
    assert "not trusted" in said
    assert broker.agent_url in said


@pytest.mark.covers("G4")
async def test_without_strictness_any_certificate_will_do(broker: RunningBroker) -> None:
    """With strictness switched off an agent connects whatever the certificate is."""
    address = access_to(broker.agent_url, None).address
    access = BrokerAccess(BrokerAddress(address.host, address.port, is_strict=False), "lax")
    async with SmallHost(access).running() as agent:
        assert agent.is_connected


async def test_a_broker_that_is_not_there_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "broker_stub.agent")
    said = await first_warning(BrokerAccess(BrokerAddress("127.0.0.1", 1), "lonely"), caplog)
    assert "https://127.0.0.1:1 cannot be reached" in said


async def test_agents_come_back_to_a_restarted_broker(tmp_path: Path) -> None:
    """The same port and working path again: what was there is there, and the agent too."""
    async with contextlib.AsyncExitStack() as stack:
        async with running_broker(tmp_path) as broker:
            host = SmallHost(access_to(broker.agent_url, broker.ca_file))
            agent = await stack.enter_async_context(host.running())
            (session_id,) = await create(broker)
            await until_state(broker, session_id, "READY")
            port = int(broker.agent_url.rpartition(":")[2])
        await until(lambda: not agent.is_connected)
        async with running_broker(tmp_path, agent_to_broker_connector_https_port=port) as broker:
            await until_state(broker, session_id, "READY")
            assert broker.broker.tokens.agents.active_count == 1
