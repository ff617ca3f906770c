"""Every step to a broker and every ability of a terminal, with what to change."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dcvtui.config import Connection, Credentials
from dcvtui.doctor import Finding, Verdict, broker_findings, clock_finding, has_failed, terminal_findings
from dcvtui.terminal import from_environment
from dcvtui.trust import Trust
from tests.awkward_broker import awkward_broker, reply
from tests.end_to_end.stand import free_port
from tests.running import RunningBroker, running_broker

NOON = datetime(2026, 3, 30, 12, 0, tzinfo=UTC)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path) as broker:
        yield broker


def connection_to(broker: RunningBroker) -> Connection:
    credentials = Credentials(broker.client_id, broker.client_secret)
    return Connection("lab", broker.url, credentials, Trust(ca_file=broker.ca_file))


async def findings(connection: Connection) -> list[Finding]:
    return [finding async for finding in broker_findings(connection)]


async def test_a_broker_that_works_is_good_in_every_step(running: RunningBroker) -> None:
    found = await findings(connection_to(running))
    assert [finding.name for finding in found] == ["name", "reach", "TLS", "token", "API", "clock"]
    assert {finding.verdict for finding in found} == {Verdict.GOOD}
    by_name = {finding.name: finding.text for finding in found}
    assert by_name["TLS"].startswith("valid until 20")
    assert by_name["TLS"].endswith(f"trusted by {running.ca_file}")
    assert by_name["token"] == f"given to {running.client_id}"
    assert by_name["API"] == "it lists 0 servers"
    assert running.client_secret not in str(found)


async def test_the_first_step_that_fails_ends_it_and_says_what_to_do(running: RunningBroker) -> None:
    good = connection_to(running)
    for connection, step, words in (
        (replace(good, url="https://no-such-name.invalid:8443"), "name", "Check the spelling"),
        (replace(good, url=f"https://127.0.0.1:{free_port()}"), "reach", "Check that the broker runs"),
        (replace(good, trust=Trust()), "TLS", "It shows SHA256:"),
        (replace(good, credentials=Credentials("id", "wrong")), "token", "does not accept the client id"),
    ):
        found = await findings(connection)
        assert (found[-1].name, found[-1].verdict) == (step, Verdict.FAILED)
        assert words in found[-1].text
        assert has_failed(found)
        assert not has_failed(found[:-1])


async def test_a_certificate_that_ends_soon_or_is_not_checked_is_worth_a_note(
    running: RunningBroker, tmp_path: Path
) -> None:
    unchecked = await findings(replace(connection_to(running), trust=Trust(is_verified=False)))
    assert next(f for f in unchecked if f.name == "TLS").verdict is Verdict.NOTE
    async with awkward_broker(tmp_path, lambda _asked: no_servers()) as broker:
        connection = Connection("x", broker.url, Credentials("id", "s"), Trust(ca_file=broker.ca_file))
        tls = next(f for f in await findings(connection) if f.name == "TLS")
    assert (tls.verdict, tls.text.rpartition(". ")[2]) == (Verdict.NOTE, "It ends soon: have it renewed")


async def no_servers() -> bytes:
    return reply({"Servers": []})


@pytest.mark.parametrize(
    ("difference_s", "verdict"),
    [(0, "ok"), (-4, "ok"), (30, "note"), (-30, "note"), (61, "failed"), (-3600, "failed")],
)
def test_clocks_that_differ_are_named(difference_s: int, verdict: str) -> None:
    found = clock_finding(NOON + timedelta(seconds=difference_s), NOON)
    assert found.verdict == verdict
    assert ("behind" in found.text) == (difference_s < -5)
    assert clock_finding(None, NOON).verdict is Verdict.NOTE


def looked_at(tmux: dict[str, str] | None = None, **environ: str) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in terminal_findings(from_environment(environ), environ, tmux or {}):
        found.setdefault(finding.name, []).append(finding)
    return found


def test_a_good_terminal_has_nothing_to_change() -> None:
    found = looked_at(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8", SSH_TTY="/dev/pts/1")
    assert {one.verdict for several in found.values() for one in several} == {Verdict.GOOD}
    assert found["pictures"][0].text == "in quadrant blocks, 16 million colours"
    assert "tmux" not in found


def test_a_poor_terminal_says_what_to_change() -> None:
    found = looked_at(TERM="dumb")
    assert found["screen"][0].verdict is Verdict.FAILED
    assert "LANG=C.UTF-8" in found["UTF-8"][0].text
    assert found["pictures"][0].verdict is Verdict.NOTE
    assert "none, as NO_COLOR asks" in looked_at(TERM="xterm", NO_COLOR="1")["colours"][0].text
    assert "TERM=xterm-256color" in looked_at(TERM="xterm")["colours"][0].text


def test_each_option_of_tmux_that_stands_in_the_way_is_named() -> None:
    bad = {"version": "tmux 3.1c", "set-clipboard": "off", "escape-time": "500"}
    texts = [one.text for one in looked_at(bad, TERM="screen", TMUX="x")["tmux"]]
    for option in ("3.2", "set-clipboard on", ":RGB", "allow-passthrough on", "escape-time 20"):
        assert any(option in text for text in texts), option
    good = {
        "version": "tmux 3.4",
        "set-clipboard": "external",
        "terminal-features": "xterm*:RGB",
        "allow-passthrough": "on",
        "escape-time": "20",
    }
    assert [one.verdict for one in looked_at(good, TERM="tmux", TMUX="x")["tmux"]] == [Verdict.GOOD]
