"""The credentials that are printed are cut by the ways that public scripts cut them."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.broker_process import broker_command, write_config
from tests.running import RunningBroker, running_broker

Credentials = tuple[str, str]


def cut_in_a_shell(script: str, output: str) -> Credentials:
    """Run a script that has the output in `$output` and prints id and password on two lines."""
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/usr/bin:/bin", "output": output},
        capture_output=True,
        check=True,
    )
    client_id, password = done.stdout.decode().splitlines()
    return client_id, password


def by_text_between_labels(output: str) -> Credentials:
    """An installer takes what is between the labels, each with the blank that belongs to it."""
    joined = output.replace("\n", "")
    client_id = joined[joined.index("client-id: ") + len("client-id: ") : joined.index(" client-password:")]
    return client_id, joined.rpartition("client-password: ")[2]


def by_sed(output: str) -> Credentials:
    """A set-up script uses sed with optional blanks."""
    return cut_in_a_shell(
        r"""
        printf '%s' "$output" | sed -n 's/^ *client-id: *//p'
        printf '%s' "$output" | sed -n 's/^ *client-password: *//p'
        """,
        output,
    )


def by_grep(output: str) -> Credentials:
    """A playbook uses grep's look-behind."""
    return cut_in_a_shell(
        r"""
        printf '%s' "$output" | grep -oP 'client-id:\s*\K\S+'
        printf '%s' "$output" | grep -oP 'client-password:\s*\K\S+'
        """,
        output,
    )


def by_expression(output: str) -> Credentials:
    """A Python tool matches up to the end of the line, which therefore has to have one."""
    found = [re.search(rf"client-{part}:\s*(.+)\n", output) for part in ("id", "password")]
    assert all(found), "no line end"
    client_id, password = (match[1] for match in found if match)
    return client_id, password


async def gets_a_token(broker: RunningBroker, credentials: Credentials) -> bool:
    async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls, trust_env=False) as client:
        answer = await client.post("/oauth2/token?grant_type=client_credentials", auth=credentials)
        return answer.status_code == 200


@pytest.mark.covers("B13", "B14")
@pytest.mark.parametrize(
    "cut", [by_text_between_labels, by_sed, by_grep, by_expression], ids=lambda one: one.__name__
)
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
async def test_public_scripts_cut_the_credentials(tmp_path: Path, cut: Callable[[str], Credentials]) -> None:
    """Each of four public ways to cut id and password out of the output gets ones that work at once."""
    async with running_broker(tmp_path) as broker:
        status, output, _ = await broker_command(
            "register-api-client", "--client-name", "installer", "--config", write_config(tmp_path)
        )
        assert status == 0
        assert await gets_a_token(broker, cut(output))
        assert not await gets_a_token(broker, cut(output.replace("client-password: ", "client-password: x")))


@pytest.mark.covers("B14")
async def test_the_password_is_nowhere_to_be_found_again(tmp_path: Path) -> None:
    """After it was printed the password is in no file of the broker and in no command's output."""
    config = write_config(tmp_path)
    async with running_broker(tmp_path) as broker:
        _, output, _ = await broker_command("register-api-client", "-cn", "one", "--config", config)
        client_id, password = by_expression(output)
        for command in (("describe-api-clients",), ("describe-api-clients", "--json"), ("status",)):
            _, shown, errors = await broker_command(*command, "--config", config)
            assert password not in shown + errors
        assert await gets_a_token(broker, (client_id, password))
    everything = [path for path in (tmp_path / "broker").rglob("*") if path.is_file()]
    assert any(path.name == "broker.db" for path in everything)
    assert not [path for path in everything if password.encode() in path.read_bytes()]
