"""A registry under random events: hosts that obey, fail and invent, clients that ask for all there is.

After each event everything that must always be true is checked: what `Scene.check`
says, and what `Watch` says about the way from one state to the next.
"""

import random
from collections.abc import Callable
from typing import Any

from broker_stub.broker.events import (
    Accepted,
    CommandExpired,
    Event,
    SendCommand,
    SessionDeletionRequested,
    SessionRequested,
)
from broker_stub.broker.session import SessionRecord
from dcvtui.api.states import SessionState
from tests.broker.scene import Scene, check_limits, report, server_block, tag_list

SERVERS = ("s1", "s2", "s3", "s4")
OWNERS = ("alice", "bob", "carl")
CODES = ("OK", "OK", "OK", "INTERNAL", "SESSION_NOT_FOUND", "SESSION_ID_CONFLICT", "OWNER_NOT_FOUND")
LIMITS = {"s1": ("2", "1"), "s2": ("3", "2"), "s3": ("0", "1"), "s4": ("-1", "1")}


ALLOWED = {
    # from: what one event may make of it; a session that is new comes from "nothing"
    "nothing": {"placing", "preparing", "ready"},
    "placing": {"preparing", "deleted", "failed", "nothing"},
    "preparing": {"placing", "ready", "failed", "deleting", "unknown", "nothing"},
    "ready": {"deleting", "deleted", "unknown", "nothing"},
    "deleting": {"deleted", "ready", "unknown", "nothing"},
    "unknown": {"ready", "deleting", "deleted", "nothing"},
    "failed": {"deleted", "nothing"},
    "deleted": {"ready", "nothing"},
}
"""The life of a session. Whatever else a client would see is a state out of order."""


def state_word(record: SessionRecord) -> str:
    """The state of a session, UNKNOWN and CREATING told apart by what they mean."""
    if record.is_failed_creation:
        return "failed"
    if record.state == SessionState.CREATING:
        return "preparing" if record.is_preparing else "placing"
    return record.state.lower()


class WatchedScene(Scene):
    """A scene that looks at every session after every event.

    Attributes:
        promised: Sessions that a client was told are accepted, and that nothing has ended by force.
    """

    def __init__(self, **rules: Any) -> None:
        super().__init__(**rules)
        self._seen: dict[str, str] = {}
        self._keys: dict[SessionRecord, str] = {}
        self._pending: set[str] = set()
        self.promised: set[str] = set()

    def handle(self, event: Event) -> Any:
        result = super().handle(event)
        self._look()
        if isinstance(event, SessionRequested) and isinstance(result, Accepted) and result.session:
            assert result.session["Id"] in self._seen
            self.promised.add(result.session["Id"])
        elif isinstance(event, SessionDeletionRequested) and isinstance(result, Accepted):
            if event.force:
                self.promised.discard(event.session_id or "")
                self._pending.discard(event.session_id or "")
            elif self._seen.get(event.session_id or "") == "deleting":
                self._pending.add(event.session_id or "")
        return result

    def restart(self) -> None:
        super().restart()
        self._look()

    def _look(self) -> None:
        sessions = self.registry._fleet.sessions
        found = {key: state_word(record) for key, record in sessions.items()}
        for record, former_key in self._keys.items():
            # A host that changed its id takes the sessions that were found on it along.
            if record.key != former_key and sessions.get(record.key) is record:
                self._seen[record.key] = self._seen.pop(former_key)
        self._keys = {record: key for key, record in sessions.items()}
        for key in found.keys() | self._seen.keys():
            former, now = self._seen.get(key, "nothing"), found.get(key, "nothing")
            assert now == former or now in ALLOWED[former], f"{key}: {former} became {now}"
            if key in self._pending and now in ("ready", "deleted", "nothing"):
                # A deletion that was promised is carried out, or the session says why it was not.
                assert now != "ready" or sessions[key].state_reason, f"{key}: its deletion was forgotten"
                self._pending.discard(key)
        self._seen = found
        made = [record.id for record in sessions.values() if not record.is_found]
        assert len(set(made)) == len(made)
        for record in sessions.values():
            holders = [
                server.id for server in self.registry._fleet.servers.values() if record.key in server.sessions
            ]
            assert holders == ([] if record.server_id is None else [record.server_id]), record.key


class Walk:
    """Hosts that obey, fail, forget, invent, fall silent; clients that ask for all there is.

    Args:
        chance: Decides everything that is left open.
        obedient: Hosts do as they are told, and nothing is removed by force or for its age.
    """

    def __init__(self, chance: random.Random, *, obedient: bool) -> None:
        self.rng = chance
        self.obedient = obedient
        self.scene = WatchedScene(
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
        """Take that many steps."""
        for _ in range(length):
            self.step()

    def step(self) -> None:
        """Let something happen, and check everything."""
        self.rng.choice(self.steps)()
        self.scene.check()
        if self.obedient:
            check_limits(self.scene)
            listed = {session["Id"] for session in self.scene.sessions()}
            assert self.scene.promised <= listed, "a session that was accepted is not listed"

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
