"""Random sequences of events: whatever happens, the state stays consistent and no limit is exceeded."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from broker_stub.broker.events import CommandExpired, SendCommand
from tests.broker.scene import Scene, check_limits, report, server_block, tag_list

SERVERS = ("s1", "s2", "s3", "s4")
OWNERS = ("alice", "bob", "carl")
CODES = ("OK", "OK", "OK", "INTERNAL", "SESSION_NOT_FOUND", "SESSION_ID_CONFLICT", "OWNER_NOT_FOUND")
LIMITS = {"s1": ("2", "1"), "s2": ("3", "2"), "s3": ("0", "1"), "s4": ("-1", "1")}


class Walk:
    """Hosts that obey, fail, forget, invent, fall silent; clients that ask for all there is."""

    def __init__(self, seed: int, *, obedient: bool) -> None:
        self.rng = random.Random(seed)  # noqa: S311  a test that repeats itself
        self.obedient = obedient
        self.scene = Scene(
            queue_max_size=4,
            queue_max_time_s=90,
            # What is forgotten while its host still has it takes a place there that nobody knows of.
            deleted_session_kept_s=1e6 if obedient else 120,
            unreachable_server_kept_s=1e6 if obedient else 200,
            unreachable_sessions_kept_s=None if obedient else self.rng.choice([None, 40.0]),
        )
        self.on_host: dict[str, dict[str, dict[str, Any]]] = {server_id: {} for server_id in SERVERS}
        self.steps: list[Callable[[], object]] = [
            self.request, self.request, self.request, self.delete, self.permissions, self.open_or_close,
            self.obey, self.obey, self.obey, self.obey, self.hello, self.hello, self.drop,
            self.report_sessions, self.report_sessions, self.report_server, self.wait, self.restart,
        ]  # fmt: skip
        if not obedient:
            self.steps += [self.invent, self.lose, self.sicken, self.expire, self.change_id]

    def run(self, length: int) -> None:
        for _ in range(length):
            step = self.rng.choice(self.steps)
            step()
            self.scene.check()
            if self.obedient:
                check_limits(self.scene)

    # -------------------------------------------------------------- clients

    def some_id(self) -> str:
        ids = [session["Id"] for session in self.scene.sessions()]
        return str(self.rng.choice([*ids, "unknown"]))

    def request(self) -> object:
        return self.scene.request(
            Owner=self.rng.choice(OWNERS),
            Type=self.rng.choice(["VIRTUAL", "VIRTUAL", "VIRTUAL", "CONSOLE"]),
            EnqueueRequest=self.rng.random() < 0.5,
            DisableRetryOnFailure=self.rng.random() < 0.3,
            Requirements=self.rng.choice(["", "", "tag:color = 'red'", "server:Host.Memory.UsedBytes < 50"]),
        )

    def delete(self) -> object:
        force = not self.obedient and self.rng.random() < 0.3
        return self.scene.delete(self.some_id(), self.rng.choice(OWNERS), force=force)

    def permissions(self) -> object:
        return self.scene.update_permissions(self.some_id(), self.rng.choice(OWNERS), "W10=")

    def open_or_close(self) -> object:
        server_id = self.rng.choice(SERVERS)
        if self.rng.random() < 0.7:
            return self.scene.open(server_id)
        return self.scene.close(server_id, force=self.rng.random() < 0.5)

    # -------------------------------------------------------------- hosts

    def block(self, server_id: str) -> dict[str, Any]:
        virtual, per_user = LIMITS[server_id]
        tags = tag_list(
            color=self.rng.choice(["red", "blue"]),
            dcv_max_virtual_sessions=virtual,
            dcv_max_concurrent_sessions_per_user=per_user,
        )
        return server_block("windows" if server_id == "s3" else "linux", tags)

    def listed(self, server_id: str) -> list[dict[str, Any]]:
        return list(self.on_host[server_id].values())

    def hello(self) -> object:
        server_id = self.rng.choice(SERVERS)
        answer = self.scene.hello(server_id, self.block(server_id), self.listed(server_id))
        for session_id in answer.orphan_sessions:
            del self.on_host[server_id][session_id]
        return answer

    def drop(self) -> None:
        self.scene.drop(self.rng.choice(SERVERS), goodbye=self.rng.random() < 0.3)

    def is_connected(self, server_id: str) -> bool:
        return self.scene.channel(server_id) != "no channel"

    def obey(self) -> None:
        orders = [order for order in self.scene.sent if self.is_connected(order.server_id)]
        if not orders:
            return
        order = orders[0] if self.obedient else self.rng.choice(orders)
        self.scene.sent.remove(order)
        code = self.carry_out(order)
        self.scene.finish(order, code, "the host says so")

    def carry_out(self, order: SendCommand) -> str:
        if order.server_id not in self.on_host:
            return "INTERNAL"
        sessions = self.on_host[order.server_id]
        session_id = order.payload["sessionId"]
        code = self.rng.choice(CODES)
        if order.kind == "createSession" and code == "OK":
            sessions[session_id] = report(session_id, order.payload["owner"], order.payload["type"])
        elif order.kind == "deleteSession" and code in ("OK", "SESSION_NOT_FOUND"):
            sessions.pop(session_id, None)
        return code

    def report_sessions(self) -> object:
        server_id = self.rng.choice(SERVERS)
        if not self.is_connected(server_id):
            return None
        for session in self.on_host[server_id].values():
            session["numOfConnections"] = self.rng.randrange(3)
        return self.scene.reports_sessions(server_id, *self.listed(server_id), full=self.rng.random() < 0.6)

    def report_server(self) -> object:
        server_id = self.rng.choice(SERVERS)
        delta: dict[str, Any] = {"host": {"memory": {"usedBytes": self.rng.randrange(100)}}}
        if self.rng.random() < 0.3:
            delta = self.block(server_id)
        return self.scene.reports_server(server_id, delta)

    def wait(self) -> None:
        self.scene.wait(self.rng.choice([0.5, 3, 10, 30, 70]))

    def restart(self) -> object:
        if self.rng.random() < 0.3:
            self.scene.restart()
        return None

    # -------------------------------------------------------------- trouble

    def invent(self) -> None:
        session_id = self.rng.choice(["console", "found", self.some_id()])
        owner, kind = self.rng.choice(OWNERS), self.rng.choice(["CONSOLE", "VIRTUAL"])
        self.on_host[self.rng.choice(SERVERS)][session_id] = report(session_id, owner, kind)

    def lose(self) -> None:
        sessions = self.on_host[self.rng.choice(SERVERS)]
        if sessions:
            sessions.pop(self.rng.choice(list(sessions)))

    def sicken(self) -> object:
        return self.scene.reports_sessions(self.rng.choice(SERVERS), healthy=False)

    def expire(self) -> None:
        for command_id in list(self.scene.disk.commands):
            self.scene.handle(CommandExpired(command_id))

    def change_id(self) -> object:
        old, new = self.rng.sample(SERVERS, 2)
        if self.scene.registry.server(new) is not None:
            return None
        self.on_host[new] |= self.on_host[old]
        self.on_host[old] = {}
        members = {"previousServerId": old, "machineFingerprint": f"machine-{old}"}
        self.scene.hello(new, self.block(new), self.listed(new), **members)
        record = self.scene.registry.server(new)
        if record is not None:
            record.fingerprint = None  # so that the walk may come back to this id
            self.scene.disk.servers[new]["fingerprint"] = None
        return None


@pytest.mark.parametrize("seed", range(15))
def test_no_limit_is_exceeded_on_hosts_that_do_as_they_are_told(seed: int) -> None:
    Walk(seed, obedient=True).run(250)


@pytest.mark.parametrize("seed", range(30))
def test_the_state_stays_consistent_whatever_hosts_do(seed: int) -> None:
    Walk(seed, obedient=False).run(250)
