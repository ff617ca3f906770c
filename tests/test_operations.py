"""Batches against a broker that misbehaves, and against the real one."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dcvtui import operations
from dcvtui.client import BrokerClient
from dcvtui.config import Credentials
from dcvtui.operations import ItemResult, Outcome
from dcvtui.trust import Trust
from tests.awkward_broker import Asked, AwkwardBroker, HangUp, awkward_broker, reply
from tests.running import RunningBroker, running_broker


def client_of(broker: AwkwardBroker) -> BrokerClient:
    return BrokerClient(broker.url, None, Trust(ca_file=broker.ca_file), retry_waits_s=())


def client_of_real(broker: RunningBroker) -> BrokerClient:
    credentials = Credentials(broker.client_id, broker.client_secret)
    return BrokerClient(broker.url, credentials, Trust(ca_file=broker.ca_file))


def new_session(name: str, **other: Any) -> dict[str, Any]:
    return {"Name": name, "Owner": "ana", "Type": "VIRTUAL", "EnqueueRequest": True} | other


def outcomes(results: Sequence[ItemResult]) -> list[Outcome]:
    return [result.outcome for result in results]


def deletions(count: int) -> list[dict[str, Any]]:
    return [{"SessionId": f"s{number}", "Owner": "ana"} for number in range(count)]


async def deleted(asked: Asked) -> bytes:
    done = [{"SessionId": item["SessionId"], "State": "DELETING"} for item in asked.json]
    return reply({"RequestId": "r", "SuccessfulList": done, "UnsuccessfulList": []})


# ------------------------------------------------------------------ the real broker


async def test_sessions_are_created_and_deleted_fifty_at_a_time(tmp_path: Path) -> None:
    news: list[tuple[int, int, int]] = []
    async with running_broker(tmp_path) as broker, client_of_real(broker) as client:
        names = [f"cad-{number}" for number in range(120)]
        batch = operations.create_sessions(client, [new_session(name) for name in names])
        created = await batch.run(lambda finished, total, new: news.append((finished, total, len(new))))
        assert news == [(50, 120, 50), (100, 120, 50), (120, 120, 20)]
        assert set(outcomes(created)) == {Outcome.DONE}
        assert [result.name for result in created] == names
        assert [(result.answer or {})["Name"] for result in created] == names
        assert len({result.id for result in created}) == 120
        assert len({result.request_id for result in created}) == 3

        # The owners are not named: they are looked up.
        ids = [result.id for result in created]
        results = await operations.delete_sessions(client, [{"SessionId": i} for i in ids]).run()
        assert set(outcomes(results)) == {Outcome.DONE}
        assert [result.id for result in results] == ids
        again = await operations.delete_sessions(client, [{"SessionId": ids[0], "Owner": "ana"}]).run()
        assert (again[0].outcome, again[0].reason) == (
            Outcome.FAILED,
            "The requested dcvSession does not exist",
        )


async def test_refused_sessions_are_told_apart_from_accepted_ones(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker, client_of_real(broker) as client:
        items = [
            new_session("a"),
            new_session("b", Type="TABLET"),
            new_session("a"),
            new_session("", Requirements="server:Host.Os.Family = 'linux'"),
            new_session("c", EnqueueRequest=False),
            new_session("d", Type="virtual"),
        ]
        results = await operations.create_sessions(client, items).run()
    assert [(str(result.outcome), result.reason) for result in results] == [
        ("done", ""),
        ("failed", "Type must be one of CONSOLE, VIRTUAL"),
        ("done", ""),
        ("failed", "Name is required"),
        ("failed", "no dcv server found for placement"),
        ("done", ""),
    ]
    assert results[0].id != results[2].id


async def test_a_wrong_owner_and_an_unknown_session_are_the_brokers_words(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker, client_of_real(broker) as client:
        [created] = await operations.create_sessions(client, [new_session("a")]).run()
        items = [
            {"SessionId": created.id, "Owner": "bob"},
            {"SessionId": "none", "Owner": "ana"},
            {"SessionId": "none"},
            {"SessionId": created.id},
        ]
        results = await operations.delete_sessions(client, items).run()
    assert [(str(result.outcome), result.reason) for result in results] == [
        ("failed", "The requested dcvSession is not owned by the specified owner"),
        ("failed", "The requested dcvSession does not exist"),
        ("failed", "The broker lists no session with this id"),
        ("done", ""),
    ]


async def test_servers_fail_with_the_brokers_code(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker, client_of_real(broker) as client:
        for verb in (operations.open_servers, operations.close_servers):
            [result] = await verb(client, [{"ServerId": "none"}]).run()
            assert (result.outcome, result.code) == (Outcome.FAILED, "DCV_SERVER_NOT_FOUND")
            assert result.reason == "Dcv server not found."


# ------------------------------------------------------------------ what is not known, what is not sent


async def test_a_lost_answer_leaves_its_items_not_known_and_the_rest_not_sent(tmp_path: Path) -> None:
    async def second_is_lost(asked: Asked) -> bytes:
        if len(broker.asked) == 2:
            raise HangUp
        return await deleted(asked)

    async with awkward_broker(tmp_path, second_is_lost) as broker, client_of(broker) as client:
        batch = operations.delete_sessions(client, deletions(130))
        results = await batch.run()
        assert len(broker.asked) == 2
    assert set(outcomes(results[:50])) == {Outcome.DONE}
    assert set(outcomes(results[50:100])) == {Outcome.NOT_KNOWN}
    assert set(outcomes(results[100:])) == {Outcome.NOT_SENT}
    assert "closed the connection before its answer" in results[50].reason
    assert batch.error is not None


async def test_a_broker_that_is_not_there_is_asked_once(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, deleted) as broker:
        pass
    async with client_of(broker) as client:
        results = await operations.delete_sessions(client, deletions(200)).run()
    assert set(outcomes(results)) == {Outcome.NOT_SENT}
    assert "connection refused" in results[0].reason


async def test_a_call_refused_whole_fails_its_items_and_the_next_one_is_sent(tmp_path: Path) -> None:
    async def first_is_refused(asked: Asked) -> bytes:
        if len(broker.asked) == 1:
            return reply({"error": 'Unrecognized field "Force"'}, "400 Bad Request")
        return await deleted(asked)

    async with awkward_broker(tmp_path, first_is_refused) as broker, client_of(broker) as client:
        results = await operations.delete_sessions(client, deletions(60)).run()
    assert outcomes(results) == [Outcome.FAILED] * 50 + [Outcome.DONE] * 10
    assert results[0].reason == 'Unrecognized field "Force"'


async def test_a_cancelled_batch_finishes_its_call_and_sends_no_other(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, deleted) as broker, client_of(broker) as client:
        batch = operations.delete_sessions(client, deletions(120))
        results = await batch.run(lambda *_news: batch.cancel())
        assert len(broker.asked) == 1
    assert outcomes(results) == [Outcome.DONE] * 50 + [Outcome.NOT_SENT] * 70
    assert results[-1].reason == "cancelled"


async def test_a_batch_whose_task_is_cancelled_still_tells_what_became_of_each_item(tmp_path: Path) -> None:
    stuck = asyncio.Event()

    async def second_hangs(asked: Asked) -> bytes:
        if len(broker.asked) == 2:
            stuck.set()
            await asyncio.Event().wait()
        return await deleted(asked)

    async with awkward_broker(tmp_path, second_hangs) as broker, client_of(broker) as client:
        batch = operations.delete_sessions(client, deletions(120))
        task = asyncio.create_task(batch.run())
        await stuck.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert outcomes(batch.results) == (
        [Outcome.DONE] * 50 + [Outcome.NOT_KNOWN] * 50 + [Outcome.NOT_SENT] * 20
    )


async def test_an_item_the_answer_does_not_name_is_not_known(tmp_path: Path) -> None:
    async def forgets_one(_asked: Asked) -> bytes:
        return reply({"RequestId": "r", "SuccessfulList": [{"SessionId": "s1"}]})

    async with awkward_broker(tmp_path, forgets_one) as broker, client_of(broker) as client:
        results = await operations.delete_sessions(client, deletions(2)).run()
    assert outcomes(results) == [Outcome.NOT_KNOWN, Outcome.DONE]


async def test_the_same_session_twice_goes_out_in_two_calls(tmp_path: Path) -> None:
    async def second_fails(asked: Asked) -> bytes:
        if len(broker.asked) == 1:
            return await deleted(asked)
        return reply({"UnsuccessfulList": [{"SessionId": "s", "FailureReason": "gone"}]})

    async with awkward_broker(tmp_path, second_fails) as broker, client_of(broker) as client:
        items = [{"SessionId": identity, "Owner": "ana"} for identity in ("s", "t", "s")]
        results = await operations.delete_sessions(client, items).run()
    assert outcomes(results) == [Outcome.DONE, Outcome.DONE, Outcome.FAILED]


async def test_an_id_with_several_owners_is_not_guessed(tmp_path: Path) -> None:
    async def console_twice(_asked: Asked) -> bytes:
        return reply({"Sessions": [{"Id": "console", "Owner": owner} for owner in ("ana", "bob")]})

    async with awkward_broker(tmp_path, console_twice) as broker, client_of(broker) as client:
        [result] = await operations.delete_sessions(client, [{"SessionId": "console"}]).run()
        assert [asked.path for asked in broker.asked] == ["/describeSessions"]
    assert result.outcome is Outcome.FAILED
    assert "ana, bob" in result.reason


async def test_owners_that_cannot_be_looked_up_leave_everything_not_sent(tmp_path: Path) -> None:
    async def refuses(_asked: Asked) -> bytes:
        return reply({"error": "Internal server error"}, "500 Internal Server Error")

    async with awkward_broker(tmp_path, refuses) as broker, client_of(broker) as client:
        items = [{"SessionId": "a"}, {"SessionId": "b", "Owner": "ana"}]
        results = await operations.update_permissions(client, items).run()
    assert outcomes(results) == [Outcome.NOT_SENT] * 2
    assert "Internal server error" in results[0].reason


async def test_failed_sessions_are_found_by_their_echo_also_when_the_broker_echoes_little(
    tmp_path: Path,
) -> None:
    async def echoes_little(_asked: Asked) -> bytes:
        failed = {"CreateSessionRequestData": {"Name": "b"}, "FailureReason": "no room"}
        created = {"Id": "1", "Name": "a", "Owner": "ana", "Type": "VIRTUAL"}
        return reply({"SuccessfulList": [created], "UnsuccessfullList": [failed, {"FailureReason": "?"}]})

    async with awkward_broker(tmp_path, echoes_little) as broker, client_of(broker) as client:
        items = [new_session("a"), new_session("b"), new_session("c")]
        results = await operations.create_sessions(client, items).run()
    assert [(r.id, r.reason) for r in results] == [("1", ""), ("", "no room"), ("", "?")]
