"""A client that sends nothing that changes anything, and keeps what it would have sent.

Reading calls are made as ever, so that a dry run looks up owners and filters
sessions as the real one does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dcvtui.api import models
from dcvtui.client import Answer, BrokerClient, Items

ModelT = TypeVar("ModelT", bound=models.WireModel)


@dataclass(frozen=True, slots=True)
class Unsent:
    """A request that was not made; `items` have no permissions text in them."""

    method: str
    url: str
    items: Sequence[Mapping[str, Any]]
    has_token: bool


class DryRunClient(BrokerClient):
    """As `BrokerClient`, but for what changes something.

    Attributes:
        unsent: the requests, in order.
    """

    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **values)
        self.unsent: list[Unsent] = []

    async def send_change(self, method: str, path: str, items: Items, model: type[ModelT]) -> Answer[ModelT]:
        """Keep the request and answer nothing."""
        shown = [shown_item(item) for item in items]
        self.unsent.append(Unsent(method, self.url + path, shown, self.needs_token))
        return Answer(model.read({}), {})


def shown_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item without the text of its permissions file: people's names are in it."""
    if "PermissionsFile" not in item:
        return dict(item)
    return {**item, "PermissionsFile": f"({len(str(item['PermissionsFile']))} characters of Base64)"}
