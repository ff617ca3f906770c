"""What the administration socket answers about trust: servers, keys, statements, agents, DNS names.

The commands are in `broker_stub.trust_commands`; access to the socket is checked
before anything here is asked.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker_stub.broker import audit
from broker_stub.broker.clients import UnknownClient
from broker_stub.broker.dns_names import DnsNames, MappingsRefused, read_mappings
from broker_stub.broker.external_tokens import ExternalServers, ServerRefused, UnknownServer, check_url
from broker_stub.broker.key_sets import KeysNotFetched
from broker_stub.broker.oauth import Tokens, utc_now
from broker_stub.broker.statements import ACTIVE, UnknownStatement
from broker_stub.broker.store import DnsMapping

_DONE = 204


def trust_routes(
    tokens: Tokens, external: ExternalServers, names: DnsNames, close_agent: Callable[[str], None]
) -> Sequence[Route]:
    """The paths of the administration socket that this module answers.

    Args:
        tokens: Keys, statements and agents.
        external: External authorization servers.
        names: DNS names of servers.
        close_agent: Ends the channels of an agent client.
    """
    return [
        *_server_routes(external),
        *_agent_routes(tokens, close_agent),
        *_name_routes(names),
    ]


def _server_routes(external: ExternalServers) -> Sequence[Route]:
    async def register(request: Request) -> Response:
        asked: dict[str, Any] = await request.json()
        url, algorithm = str(asked.get("url", "")), asked.get("algorithm")
        try:
            warnings = check_url(url)
            if asked.get("check"):
                await external.check_keys(url)
            await external.register(url, str(algorithm).upper() if algorithm else None)
        except ServerRefused as refused:
            return _refused(str(refused), 400)
        except KeysNotFetched as error:
            return _refused(f"the keys at {url} cannot be had: {error}", 400)
        audit.note(url=url)
        return JSONResponse({"warnings": warnings}, 201)

    async def describe(_request: Request) -> Response:
        return JSONResponse([{"url": server.url, "algorithm": server.algorithm} for server in external.all()])

    async def unregister(request: Request) -> Response:
        url = str((await request.json()).get("url", ""))
        try:
            await external.unregister(url)
        except UnknownServer:
            return _refused(f"no authorization server with the URL {url}", 404)
        audit.note(url=url)
        return Response(status_code=_DONE)

    return _routes("/auth-servers", POST=register, GET=describe, DELETE=unregister)


def _agent_routes(tokens: Tokens, close_agent: Callable[[str], None]) -> Sequence[Route]:
    statements, agents = tokens.statements, tokens.agents

    async def renew_keys(request: Request) -> Response:
        await tokens.renew_access_keys(int((await request.json()).get("graceSeconds", 0)))
        return Response(status_code=_DONE)

    async def generate(_request: Request) -> Response:
        text = await statements.generate()
        return JSONResponse({"softwareStatement": text}, 201)

    async def describe_statements(_request: Request) -> Response:
        return JSONResponse(
            [
                {
                    "softwareStatement": one.text,
                    "issuedAt": one.created_at.isoformat(),
                    "isActive": one.status == ACTIVE,
                }
                for one in statements.all()
            ]
        )

    async def deactivate(request: Request) -> Response:
        try:
            await statements.deactivate(str((await request.json()).get("softwareStatement", "")))
        except UnknownStatement:
            return _refused("no such software statement", 404)
        return Response(status_code=_DONE)

    async def describe_agents(_request: Request) -> Response:
        return JSONResponse(
            [
                {"name": one.name, "id": one.client_id, "active": one.status == "active"}
                for one in agents.all()
            ]
        )

    async def unregister_agent(request: Request) -> Response:
        client_id: str = request.path_params["client_id"]
        try:
            await agents.unregister(client_id)
        except UnknownClient:
            return _refused(f"no agent client with id {client_id}", 404)
        close_agent(client_id)
        audit.note(client=client_id)
        return Response(status_code=_DONE)

    return [
        *_routes("/access-keys", POST=renew_keys),
        *_routes("/software-statements", POST=generate, GET=describe_statements, DELETE=deactivate),
        *_routes("/agent-clients", GET=describe_agents),
        *_routes("/agent-clients/{client_id:path}", DELETE=unregister_agent),
    ]


def _name_routes(names: DnsNames) -> Sequence[Route]:
    async def register(request: Request) -> Response:
        asked: dict[str, Any] = await request.json()
        try:
            found = read_mappings(str(asked.get("text", "")), utc_now())
        except MappingsRefused as refused:
            return _refused(f"nothing was loaded: {refused}", 400)
        await names.register(found.mappings, replace=bool(asked.get("replace")))
        audit.note(mappings=len(found.mappings))
        return JSONResponse({"count": len(found.mappings), "warnings": found.warnings}, 201)

    async def describe(_request: Request) -> Response:
        return JSONResponse([_mapping(one) for one in names.all()])

    return _routes("/dns-mappings", POST=register, GET=describe)


def _mapping(mapping: DnsMapping) -> dict[str, Any]:
    names = {"internalDnsName": mapping.internal_name, "externalDnsName": mapping.external_name}
    return {
        "serverIdType": mapping.id_type,
        "serverId": mapping.server_id,
        "dnsNames": {key: name for key, name in names.items() if name is not None},
    }


def _routes(path: str, **endpoints: Callable[[Request], Awaitable[Response]]) -> Sequence[Route]:
    return [Route(path, endpoint, methods=[method]) for method, endpoint in endpoints.items()]


def _refused(sentence: str, status: int) -> Response:
    return JSONResponse({"error": sentence}, status)
