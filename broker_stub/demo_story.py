"""Brings the demo's fleet into the state that an operator should find, through the broker's API.

Some trouble cannot be simulated on a host: a closed server and a session that
waits are things the broker knows, so they are made the way an operator makes them.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any

import httpx

from broker_stub.agent.simulated_fleet import FleetPlan, Role
from dcvtui.api.states import Availability, UnavailabilityReason

_LOOK_S = 0.2
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ApiClient:
    """A registered client of the broker."""

    client_id: str
    client_secret: str


async def register_client(admin_socket: str, name: str) -> ApiClient:
    """Register an API client through the broker's administration socket."""
    transport = httpx.AsyncHTTPTransport(uds=admin_socket)
    async with httpx.AsyncClient(transport=transport, base_url="http://broker", timeout=10) as client:
        answer = (await client.post("/api-clients", json={"name": name})).raise_for_status().json()
    return ApiClient(answer["clientId"], answer["clientPassword"])


class Story:
    """The steps from a fleet that has just registered to the promised one.

    Args:
        plan: The simulated fleet.
        others: How many servers there are besides.
        is_still: Whether only what stays for good may be told.
    """

    def __init__(self, plan: FleetPlan, others: int, *, is_still: bool) -> None:
        self._plan = plan
        self._others = others
        self._is_still = is_still

    @staticmethod
    def sessions_told(servers: int, *, is_still: bool) -> int:
        """How many sessions the story adds to those of the plan."""
        has_stuck_server = servers >= len(Role) + 1
        return 0 if not has_stuck_server else 1 if is_still else 2

    async def tell(self, url: str, ca_file: str, api_client: ApiClient) -> None:
        """Do everything and return when the API shows it."""
        tls = ssl.create_default_context(cafile=ca_file)
        async with httpx.AsyncClient(base_url=url, verify=tls, timeout=30, trust_env=False) as client:
            credentials = (api_client.client_id, api_client.client_secret)
            form = {"grant_type": "client_credentials"}
            token = (
                (await client.post("/oauth2/token", data=form, auth=credentials)).raise_for_status().json()
            )
            client.headers["Authorization"] = f"Bearer {token['access_token']}"
            await self._close_servers(client)
            await self._start_sessions(client)
            while not self._is_told(await _servers(client)):  # noqa: ASYNC110  the API can only be polled
                await asyncio.sleep(_LOOK_S)

    def _ids(self, role: Role) -> set[str]:
        return {server.server_id for server in self._plan.servers if server.role is role}

    async def _close_servers(self, client: httpx.AsyncClient) -> None:
        items = [{"ServerId": server_id, "Force": True} for server_id in sorted(self._ids(Role.CLOSED))]
        if items:
            (await client.post("/closeServers", json=items)).raise_for_status()

    async def _start_sessions(self, client: httpx.AsyncClient) -> None:
        if not self.sessions_told(len(self._plan.servers), is_still=self._is_still):
            return
        waiting = {
            "Name": "train-hugo-1",
            "Owner": "hugo",
            "Type": "VIRTUAL",
            "EnqueueRequest": True,
            "Requirements": "tag:gpu = 'h100'",  # a machine that nobody has
        }
        stuck_server = next(server for server in self._plan.servers if server.role is Role.STUCK)
        stuck = {
            "Name": "sim-ana-stuck",
            "Owner": "ana",
            "Type": "VIRTUAL",
            "Requirements": f"server:Hostname = '{stuck_server.hostname}'",
        }
        # In a still fleet nothing is under way: pictures and tests are made of it.
        items = [waiting] if self._is_still else [waiting, stuck]
        (await client.post("/createSessions", json=items)).raise_for_status()

    def _is_told(self, servers: list[dict[str, Any]]) -> bool:
        found = {server["Id"]: server for server in servers}
        reasons = {
            **dict.fromkeys(self._ids(Role.UNREACHABLE), UnavailabilityReason.UNREACHABLE_AGENT),
            **dict.fromkeys(self._ids(Role.CLOSED), UnavailabilityReason.SERVER_CLOSED),
            **dict.fromkeys(self._ids(Role.FULL), UnavailabilityReason.SERVER_FULL),
        }
        idle = self._ids(Role.IDLE)
        return (
            len(found) == len(self._plan.servers) + self._others
            and all(found[key].get("UnavailabilityReason") == reason for key, reason in reasons.items())
            and all(found[key]["Availability"] == Availability.AVAILABLE for key in idle)
        )


async def _servers(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    servers: list[dict[str, Any]] = []
    question: dict[str, Any] = {"MaxResults": _PAGE}
    while True:
        answer = (await client.post("/describeServers", json=question)).raise_for_status().json()
        servers += answer["Servers"]
        if not answer.get("NextToken"):
            return servers
        question["NextToken"] = answer["NextToken"]
