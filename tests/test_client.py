"""The client against brokers that misbehave, over real TLS; against the real one in `test_client_broker`."""

import asyncio
import logging
import socket
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dcvtui.client import BrokerClient
from dcvtui.config import Credentials
from dcvtui.errors import (
    BrokerError,
    ConfigError,
    NotAuthorized,
    NotTrusted,
    NotUnderstood,
    Refused,
    TimedOut,
    Unreachable,
)
from dcvtui.trust import Trust, offered_certificate
from tests.awkward_broker import (
    TOKEN,
    Asked,
    AwkwardBroker,
    HangUp,
    awkward_broker,
    make_certificate,
    reply,
)

SECRET = "the-client-secret-0815"
CREDENTIALS = Credentials("an-id", SECRET)
NO_SESSIONS = reply({"RequestId": "r", "Sessions": []})


class Clock:
    """A clock that a test moves; waiting moves it too."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def client_of(broker: AwkwardBroker, clock: Clock | None = None, **given: Any) -> BrokerClient:
    clock = clock or Clock()
    options: dict[str, Any] = {"trust": Trust(ca_file=broker.ca_file), "credentials": CREDENTIALS} | given
    return BrokerClient(broker.url, now=clock, sleep=clock.sleep, **options)


async def no_sessions(_asked: Asked) -> bytes:
    return NO_SESSIONS


def always(answer: bytes) -> Callable[[Asked], Any]:
    async def give(_asked: Asked) -> bytes:
        return answer

    return give


# ------------------------------------------------------------------ tokens


async def test_the_token_request_is_that_of_every_known_client(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker) as client:
        await client.describe_sessions_page()
        [asked] = broker.token_requests
        assert (asked.method, asked.path) == ("POST", "/oauth2/token?grant_type=client_credentials")
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
        assert asked.headers["authorization"].startswith("Basic ")
        assert asked.body == b""
        assert broker.asked[0].headers["authorization"] == "Bearer token-1"


async def test_an_external_token_server_gets_grant_type_and_scope_in_the_form(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker:
        elsewhere = Credentials("an-id", SECRET, token_url=f"{broker.url}/oauth2/token", scope="sm_scope")
        async with client_of(broker, credentials=elsewhere) as client:
            await client.authorize()
        assert broker.token_requests[0].body == b"scope=sm_scope&grant_type=client_credentials"


async def test_an_external_token_server_is_named_as_what_it_is(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker:
        elsewhere = Credentials("an-id", SECRET, token_url="https://127.0.0.1:9/token")
        async with client_of(broker, credentials=elsewhere) as client:
            with pytest.raises(
                Unreachable, match=r"The token server https://127\.0\.0\.1:9/token could not be"
            ):
                await client.describe_sessions_page()
        assert broker.asked == broker.token_requests == []


async def test_tokens_of_another_server_serve_and_stay_hidden_as_well(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()

    async def echo(asked: Asked) -> bytes:
        return reply({"error": asked.headers["authorization"]}, "400 Bad Request")

    async with (
        awkward_broker(tmp_path, echo) as broker,
        awkward_broker(tmp_path / "tokens", no_sessions) as token_server,
    ):
        both = tmp_path / "both.pem"
        both.write_text(broker.ca_file.read_text() + token_server.ca_file.read_text())
        elsewhere = Credentials("an-id", SECRET, token_url=f"{token_server.url}/oauth2/token")
        async with client_of(broker, credentials=elsewhere, trust=Trust(ca_file=both)) as client:
            with pytest.raises(Refused, match="Bearer •••"):
                await client.describe_sessions_page()
        assert len(token_server.token_requests) == 1
        assert broker.token_requests == []


async def test_a_change_whose_token_could_not_be_had_was_not_sent(tmp_path: Path) -> None:
    async def hang_up(_asked: Asked) -> bytes:
        raise HangUp

    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker) as client:
        broker.token_answer = hang_up
        with pytest.raises(Unreachable) as caught:
            await client.create_sessions([{"Name": "n"}])
        assert not caught.value.was_sent
        assert broker.asked == []


async def test_a_token_serves_for_four_fifths_of_its_life(tmp_path: Path) -> None:
    clock = Clock()
    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker, clock) as client:
        for later, tokens in ((0, 1), (2879, 1), (1, 2), (2879, 2)):
            clock.now += later
            await client.describe_sessions_page()
            assert len(broker.token_requests) == tokens


async def test_a_token_without_a_life_serves_one_call(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker) as client:
        broker.token_answer = always(reply({"access_token": "x"}))
        await client.describe_sessions_page()
        await client.describe_sessions_page()
        assert len(broker.token_requests) == 2


async def test_calls_at_once_fetch_one_token(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker) as client:
        await asyncio.gather(*(client.describe_sessions_page() for _ in range(5)))
        assert len(broker.token_requests) == 1


async def test_a_refused_token_is_replaced_once_also_for_a_change(tmp_path: Path) -> None:
    async def first_token_is_refused(asked: Asked) -> bytes:
        if asked.headers["authorization"] == "Bearer token-1":
            return reply({"error": "Invalid access token"}, "401 Unauthorized")
        return reply({"RequestId": "r", "SuccessfulList": [{"SessionId": "s", "State": "DELETING"}]})

    async with awkward_broker(tmp_path, first_token_is_refused) as broker, client_of(broker) as client:
        answer = await client.delete_sessions([{"SessionId": "s", "Owner": "ana"}])
        assert answer.model.successful_list[0].state == "DELETING"
        assert len(broker.asked) == len(broker.token_requests) == 2


async def test_a_second_refusal_is_reported(tmp_path: Path) -> None:
    refused = always(reply({"error": "Invalid access token"}, "401 Unauthorized"))
    async with awkward_broker(tmp_path, refused) as broker, client_of(broker) as client:
        with pytest.raises(NotAuthorized, match="Invalid access token"):
            await client.describe_sessions_page()
        assert len(broker.asked) == 2


async def test_a_wrong_secret_is_reported_at_once(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker) as client:
        broker.token_answer = always(reply({"error": "invalid_client"}, "401 Unauthorized"))
        with pytest.raises(NotAuthorized, match="client id or the client secret"):
            await client.describe_sessions_page()
        assert (len(broker.token_requests), broker.asked) == (1, [])


async def test_a_broker_that_gives_no_tokens_names_the_option(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker) as client:
        broker.token_answer = always(reply({"error": "Not found"}, "404 Not Found"))
        with pytest.raises(NotAuthorized, match="--auth-server"):
            await client.authorize()


async def test_a_ready_token_is_sent_as_it_is_and_final(tmp_path: Path) -> None:
    refused = always(reply({"error": "Invalid access token"}, "401 Unauthorized"))
    ready = Credentials(access_token="ready-token")
    async with (
        awkward_broker(tmp_path, refused) as broker,
        client_of(broker, credentials=ready) as client,
    ):
        with pytest.raises(NotAuthorized):
            await client.describe_sessions_page()
        assert [asked.headers["authorization"] for asked in broker.asked] == ["Bearer ready-token"]
        assert broker.token_requests == []


async def test_no_token_is_sent_to_a_broker_that_asks_for_none(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker:
        async with client_of(broker, credentials=None) as client:
            await client.describe_sessions_page()
        assert "authorization" not in broker.asked[0].headers
        assert broker.token_requests == []


# ------------------------------------------------------------------ repeats


def every_third_time_503() -> Callable[[Asked], Any]:
    count = 0

    async def give(_asked: Asked) -> bytes:
        nonlocal count
        count += 1
        if count % 3 == 0:
            return reply({"error": "Service unavailable"}, "503 Service Unavailable")
        return reply({"RequestId": "r", "Sessions": [], "SuccessfulList": []})

    return give


async def test_a_describe_call_survives_a_503_every_third_time(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, every_third_time_503()) as broker, client_of(broker) as client:
        for _ in range(6):
            await client.describe_sessions_page()
        assert len(broker.asked) == 8


async def test_a_change_is_never_sent_twice(tmp_path: Path) -> None:
    refused = always(reply({"error": "Service unavailable"}, "503 Service Unavailable"))
    async with awkward_broker(tmp_path, refused) as broker, client_of(broker) as client:
        with pytest.raises(Refused, match="Service unavailable") as caught:
            await client.create_sessions([{"Name": "n"}])
        assert (len(broker.asked), caught.value.status, caught.value.was_sent) == (1, 503, False)


async def test_an_answer_lost_after_sending_is_not_known_and_not_repeated(tmp_path: Path) -> None:
    async def hang_up(_asked: Asked) -> bytes:
        raise HangUp

    async with awkward_broker(tmp_path, hang_up) as broker, client_of(broker) as client:
        with pytest.raises(Unreachable, match="closed the connection before its answer") as caught:
            await client.create_sessions([{"Name": "n"}])
        assert (len(broker.asked), caught.value.was_sent) == (1, True)


async def test_a_lost_answer_to_a_describe_call_is_asked_for_again(tmp_path: Path) -> None:
    async def first_is_lost(_asked: Asked) -> bytes:
        if len(broker.asked) == 1:
            raise HangUp
        return NO_SESSIONS

    async with awkward_broker(tmp_path, first_is_lost) as broker, client_of(broker) as client:
        await client.describe_sessions_page()
        assert len(broker.asked) == 2


@pytest.mark.parametrize("header", ["Retry-After: 7\r\n", "Date: {now}\r\nRetry-After: {later}\r\n"])
async def test_a_throttled_change_waits_as_long_as_the_broker_says(tmp_path: Path, header: str) -> None:
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    names = {"now": moment, "later": moment + timedelta(seconds=7)}
    dates = {name: time.strftime("%a, %d %b %Y %H:%M:%S GMT") for name, time in names.items()}

    async def throttled_once(_asked: Asked) -> bytes:
        if len(broker.asked) == 1:
            return reply({"error": "Too many requests"}, "429 Too Many Requests", header.format(**dates))
        return reply({"RequestId": "r", "SuccessfulList": []})

    clock = Clock()
    async with awkward_broker(tmp_path, throttled_once) as broker, client_of(broker, clock) as client:
        await client.open_servers([{"ServerId": "a"}])
        assert clock.waits == [7.0]


async def test_a_wait_that_is_too_long_is_reported_with_its_length(tmp_path: Path) -> None:
    throttled = always(
        reply({"error": "Too many requests"}, "429 Too Many Requests", "Retry-After: 3600\r\n")
    )
    clock = Clock()
    async with awkward_broker(tmp_path, throttled) as broker, client_of(broker, clock) as client:
        with pytest.raises(Refused) as caught:
            await client.describe_servers_page()
        assert (caught.value.retry_after_s, clock.waits) == (3600.0, [])


# ------------------------------------------------------------------ reach and trust


async def test_a_refused_connection_is_one_sentence() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{unused.getsockname()[1]}"
        clock = Clock()
        async with BrokerClient(url, None, Trust(is_verified=False), sleep=clock.sleep) as client:
            with pytest.raises(Unreachable, match=r"connection refused\. Check that it runs") as caught:
                await client.describe_sessions_page()
    assert not caught.value.was_sent
    assert len(clock.waits) == 2


async def test_an_unknown_name_is_one_sentence() -> None:
    clock = Clock()
    url = "https://no-such-broker.invalid:8443"
    async with BrokerClient(url, None, Trust(is_verified=False), sleep=clock.sleep) as client:
        with pytest.raises(Unreachable, match="no address is known for its name"):
            await client.describe_sessions_page()


async def test_a_slow_broker_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    async def never(_asked: Asked) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with awkward_broker(tmp_path, never) as broker, client_of(broker, deadline_s=0.3) as client:
        with pytest.raises(TimedOut, match=r"did not answer within 0\.3 seconds") as caught:
            await client.describe_sessions_page()
        assert caught.value.was_sent


async def test_an_answer_that_never_ends_does_not_extend_the_deadline(tmp_path: Path) -> None:
    unfinished = always(reply({"Sessions": []}).replace(b"Content-Length: ", b"Content-Length: 9"))
    async with awkward_broker(tmp_path, unfinished) as broker, client_of(broker, deadline_s=0.3) as client:
        with pytest.raises(TimedOut):
            await client.describe_sessions_page()


async def test_a_port_that_says_nothing_is_given_up_at_the_deadline() -> None:
    hung_up = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, BrokerClient(url, None, Trust(is_verified=False), deadline_s=0.3) as client:
        with pytest.raises(TimedOut, match=r"could not be reached within 0\.3 seconds") as caught:
            await client.describe_sessions_page()
        await asyncio.wait_for(hung_up.wait(), 30)  # the connection is not left open
    assert not caught.value.was_sent


async def test_a_port_without_tls_is_one_sentence() -> None:
    def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, BrokerClient(url, None, Trust(is_verified=False), retry_waits_s=()) as client:
        with pytest.raises(Unreachable, match="does not speak TLS"):
            await client.describe_sessions_page()


async def test_an_untrusted_certificate_shows_its_fingerprint_and_gets_nothing(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker, trust=Trust()) as client:
        with pytest.raises(NotTrusted) as caught:
            await client.describe_sessions_page()
        offered = await offered_certificate("127.0.0.1", int(broker.url.rpartition(":")[2]))
        assert offered is not None
        assert caught.value.fingerprint == offered.fingerprint
        assert f"--trust-fingerprint {offered.fingerprint}" in caught.value.sentence
        assert "--ca-bundle" in caught.value.sentence
        assert offered.subject == "CN=localhost"
        assert offered.validity[0] < datetime.now(UTC) < offered.validity[1]
        assert broker.token_requests == []


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    async with (
        awkward_broker(tmp_path, no_sessions, names=("elsewhere.example",)) as broker,
        client_of(broker) as client,
    ):
        with pytest.raises(NotTrusted, match=r"127\.0\.0\.1"):
            await client.describe_sessions_page()


async def test_a_pinned_fingerprint_replaces_chain_and_name(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions, names=("elsewhere.example",)) as broker:
        offered = await offered_certificate("127.0.0.1", int(broker.url.rpartition(":")[2]))
        assert offered is not None
        async with client_of(broker, trust=Trust(fingerprint=offered.fingerprint)) as client:
            await client.describe_sessions_page()


async def test_another_certificate_than_the_pinned_one_gets_nothing(tmp_path: Path) -> None:
    pinned = "SHA256:" + ":".join(["00"] * 32)
    async with (
        awkward_broker(tmp_path, no_sessions) as broker,
        client_of(broker, trust=Trust(fingerprint=pinned)) as client,
    ):
        with pytest.raises(NotTrusted, match=f"not the pinned {pinned}.*It shows SHA256:"):
            await client.describe_sessions_page()
        assert broker.token_requests == []


def test_a_ca_file_that_is_missing_or_no_certificate_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for path, reason in (
        (tmp_path / "none.pem", "does not exist"),
        (tmp_path / "ca.pem", "holds no PEM certificate"),
        (tmp_path, "cannot be used"),
    ):
        with pytest.raises(ConfigError, match=reason):
            BrokerClient("https://broker.example", None, Trust(ca_file=path))


@pytest.mark.parametrize("url", ["", "broker:8443", "http://broker:8443", "https://", "https://a:b"])
def test_an_address_that_is_no_brokers_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        BrokerClient(url, None, Trust())


# ------------------------------------------------------------------ answers that no broker gives


HTML = b"<!DOCTYPE html><html><head><title>It works\x1b[2J</title></head></html>"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(content=HTML), r'a page of HTML \("It works␛\[2J"\)'),
        (reply(content=b"<html></html>"), "a page of HTML"),
        (reply(content=b""), "an empty page"),
        (reply(content=b"\xff\xfe\x00garbage"), "something that is not JSON"),
        (reply(content=b"[" * 100_000), "something that is not JSON"),
        (reply([]), "JSON of another shape"),
        (reply({"Sessions": {"Id": "x"}}), "no list of objects"),
        (reply({"Sessions": ["x"]}), "no list of objects"),
        (reply(content=HTML, status="404 Not Found"), "HTTP 404 and a page of HTML"),
        (
            reply("", "302 Found", "Location: https://other.example/\r\n"),
            "a redirection to https://other.example/",
        ),
        (reply(content=b"no gzip", headers="Content-Encoding: gzip\r\n"), "compression is damaged"),
    ],
)
async def test_what_is_no_brokers_answer_is_one_sentence(tmp_path: Path, answer: bytes, words: str) -> None:
    async with awkward_broker(tmp_path, always(answer)) as broker, client_of(broker) as client:
        with pytest.raises(
            NotUnderstood, match=f"{words}.*which no broker does. Check that address and port"
        ):
            await client.describe_sessions_page()


async def test_garbage_in_place_of_http_is_one_sentence(tmp_path: Path) -> None:
    async with (
        awkward_broker(tmp_path, always(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")) as broker,
        client_of(broker) as client,
    ):
        with pytest.raises(BrokerError):
            await client.describe_sessions_page()


async def test_a_wrong_shape_after_a_change_leaves_it_not_known(tmp_path: Path) -> None:
    wrong = always(reply({"SuccessfulList": "yes"}))
    async with awkward_broker(tmp_path, wrong) as broker, client_of(broker) as client:
        with pytest.raises(NotUnderstood) as caught:
            await client.create_sessions([{"Name": "n"}])
        assert caught.value.was_sent


async def test_the_brokers_own_words_are_quoted_and_visible(tmp_path: Path) -> None:
    words = always(reply({"error": 'Unrecognized field "\x1b]0;x\x07\u202e"'}, "400 Bad Request"))
    async with awkward_broker(tmp_path, words) as broker, client_of(broker) as client:
        with pytest.raises(Refused) as caught:
            await client.describe_sessions_page()
    assert caught.value.text == 'Unrecognized field "␛]0;x␇<U+202E>"'
    assert caught.value.text in caught.value.sentence
    assert caught.value.status == 400


@pytest.mark.parametrize(("status", "is_sent"), [("500 x", False), ("502 x", True), ("504 x", True)])
async def test_a_gateways_answer_does_not_tell_what_the_broker_did(
    tmp_path: Path, status: str, is_sent: bool
) -> None:
    async with (
        awkward_broker(tmp_path, always(reply(content=HTML, status=status))) as broker,
        client_of(broker) as client,
    ):
        with pytest.raises(Refused) as caught:
            await client.close_servers([{"ServerId": "a"}])
        assert caught.value.was_sent is is_sent


# ------------------------------------------------------------------ secrets


async def test_neither_secret_nor_token_stands_in_errors_logs_or_reprs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def echo(asked: Asked) -> bytes:
        if len(broker.asked) % 2:
            raise HangUp
        return reply({"error": asked.headers["authorization"]}, "400 Bad Request")

    async with awkward_broker(tmp_path, echo) as broker:
        broker.token_answer = always(reply(TOKEN | {"access_token": "the-access-token"}))
        async with client_of(broker, retry_waits_s=()) as client:
            said = [repr(client), repr(CREDENTIALS)]
            for _ in range(4):
                with pytest.raises(BrokerError) as caught:
                    await client.create_sessions([])
                said.append("".join(traceback.format_exception(caught.value)))
        broker.token_answer = always(reply({"error": SECRET}, "418 I'm a teapot"))
        async with client_of(broker) as client:
            with pytest.raises(BrokerError) as caught:
                await client.authorize()
            said.append(caught.value.sentence)
    everything = "\n".join([*said, caplog.text])
    assert "Bearer •••" in everything
    assert SECRET not in everything
    assert "the-access-token" not in everything


async def test_a_token_with_odd_characters_is_never_sent(tmp_path: Path) -> None:
    odd = Credentials(access_token="abc\r\nX-Injected: yes")
    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker, credentials=odd) as client:
        with pytest.raises(NotAuthorized) as caught:
            await client.describe_sessions_page()
        assert "Injected" not in caught.value.sentence
        assert broker.asked == []


# ------------------------------------------------------------------ pages


def pages_of(*tokens: Any) -> Callable[[Asked], Any]:
    async def give(asked: Asked) -> bytes:
        number = int(asked.json.get("NextToken", "0"))
        page: dict[str, Any] = {"RequestId": f"r{number}", "Sessions": [{"Id": f"s{number}", "New": 1}]}
        return reply(page | {"NextToken": tokens[number]})

    return give


@pytest.mark.parametrize("last", [None, "", 7])
async def test_pages_are_followed_to_the_end_with_the_same_filters(tmp_path: Path, last: Any) -> None:
    async with (
        awkward_broker(tmp_path, pages_of("1", "2", last)) as broker,
        client_of(broker) as client,
    ):
        found = [page async for page in client.sessions(filters=[("owner", "ana")])]
        assert found == [[{"Id": f"s{number}", "New": 1}] for number in range(3)]
        filters = [{"Key": "owner", "Value": "ana"}]
        assert [asked.json for asked in broker.asked] == [
            {"Filters": filters},
            {"Filters": filters, "NextToken": "1"},
            {"Filters": filters, "NextToken": "2"},
        ]


async def test_a_token_that_comes_again_ends_the_walk(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, pages_of("1", "1")) as broker, client_of(broker) as client:
        assert len([page async for page in client.sessions()]) == 2


async def test_absent_and_null_lists_are_empty(tmp_path: Path) -> None:
    for body in ({}, {"Servers": None}):
        async with awkward_broker(tmp_path, always(reply(body))) as broker, client_of(broker) as client:
            assert (await client.describe_servers_page())["Servers"] == []


async def test_more_ids_than_a_call_takes_are_asked_for_in_several(tmp_path: Path) -> None:
    async with awkward_broker(tmp_path, no_sessions) as broker, client_of(broker) as client:
        async for _ in client.sessions(ids=[str(number) for number in range(2001)]):
            pass
        assert [len(asked.json["SessionIds"]) for asked in broker.asked] == [1000, 1000, 1]


async def test_the_brokers_clock_is_told_by_its_answers_and_runs_on(tmp_path: Path) -> None:
    dated = always(reply({"Sessions": []}, headers="Date: Sun, 01 Mar 2026 12:00:00 GMT\r\n"))
    clock = Clock()
    async with awkward_broker(tmp_path, dated) as broker, client_of(broker, clock) as client:
        assert client.broker_time is None
        await client.describe_sessions_page()
        clock.now += 90
        assert client.broker_time == datetime(2026, 3, 1, 12, 1, 30, tzinfo=UTC)


# ------------------------------------------------------------------ variants of the printed guide


async def test_misprinted_answers_of_the_guide_are_read(tmp_path: Path) -> None:
    printed = {
        "RequestId": "r",
        "successful_list": [],
        "UnsuccessfullList": [{"OpenServerRequestData": {"ServerId": "a"}, "FailureReason": "why"}],
    }
    async with awkward_broker(tmp_path, always(reply(printed))) as broker, client_of(broker) as client:
        [failed] = (await client.close_servers([{"ServerId": "a"}])).model.unsuccessful_list
        assert failed.close_server_request_data is not None
        assert (failed.failure_reason, failed.close_server_request_data.server_id) == ("why", "a")


async def test_a_connection_token_stays_out_of_reprs(tmp_path: Path) -> None:
    data = always(reply({"Session": {"Id": "s"}, "ConnectionToken": "a.secret.token"}))
    async with awkward_broker(tmp_path, data) as broker, client_of(broker) as client:
        answer = await client.connection_data("s", "ana")
        assert answer.model.connection_token == "a.secret.token"
        assert "secret" not in repr(answer)


@pytest.mark.parametrize(
    ("user", "part"),
    [
        ("ana", "ana"),
        ("CORP\\ana", "CORP%5Cana"),
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        ("ü?#", "%C3%BC%3F%23"),
    ],
)
async def test_odd_users_reach_the_broker_whole(tmp_path: Path, user: str, part: str) -> None:
    async with awkward_broker(tmp_path, always(reply({}))) as broker, client_of(broker) as client:
        await client.connection_data("s", user)
        assert (broker.asked[0].method, broker.asked[0].path) == ("GET", f"/sessionConnectionData/s/{part}")


# ------------------------------------------------------------------ screenshots


async def test_screenshots_go_out_five_at_a_time(tmp_path: Path) -> None:
    async def shots(asked: Asked) -> bytes:
        done = [{"SessionScreenshot": {"SessionId": item["SessionId"], "Images": []}} for item in asked.json]
        return reply({"RequestId": f"r{len(broker.asked)}", "SuccessfulList": done})

    async with awkward_broker(tmp_path, shots) as broker, client_of(broker) as client:
        answer = await client.screenshots([{"SessionId": str(number)} for number in range(12)])
        assert [len(asked.json) for asked in broker.asked] == [5, 5, 2]
        assert len(answer.model.successful_list) == 12
        assert answer.raw["RequestId"] == "r3"


async def test_a_broker_too_old_for_sizes_is_asked_without_them_from_then_on(tmp_path: Path) -> None:
    async def old(asked: Asked) -> bytes:
        if "MaxWidth" in asked.json[0]:
            return reply({"error": 'Unrecognized field "MaxWidth"'}, "400 Bad Request")
        return reply({"RequestId": "r", "SuccessfulList": []})

    async with awkward_broker(tmp_path, old) as broker, client_of(broker) as client:
        for _ in range(2):
            await client.screenshots([{"SessionId": "s", "MaxWidth": 800}])
        assert [asked.json for asked in broker.asked] == [
            [{"SessionId": "s", "MaxWidth": 800}],
            [{"SessionId": "s"}],
            [{"SessionId": "s"}],
        ]


def test_an_expired_certificate_can_be_made(tmp_path: Path) -> None:
    assert make_certificate(tmp_path, ("localhost",), days=-1)[0].exists()
