"""DNS names of servers: reading a file of mappings, and which name counts."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_stub.broker.dns_names import DnsNames, MappingsRefused, read_mappings
from broker_stub.broker.store import DnsMapping, StoreUnavailable

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def entry(kind: str = "Id", id: Any = "s", **names: Any) -> dict[str, Any]:
    return {"ServerIdType": kind, "ServerId": id, "DnsNames": names or {"InternalDnsName": "internal"}}


def read(*entries: Any) -> list[DnsMapping]:
    return read_mappings(json.dumps(entries), NOW).mappings


class Written:
    """What was written durably, or the trouble with it."""

    def __init__(self) -> None:
        self.rows: dict[str, DnsMapping] = {}
        self.is_down = False

    async def __call__(self, saved: Sequence[DnsMapping], removed: Sequence[str]) -> None:
        if self.is_down:
            raise StoreUnavailable
        for key in removed:
            del self.rows[key]
        self.rows |= {mapping.key: mapping for mapping in saved}


@pytest.mark.covers("B23")
@pytest.mark.parametrize(
    ("kind", "canonical"),
    [
        ("Ip", "Ip"),
        ("ipAddress", "Ip"),
        ("Id", "Id"),
        ("agentServerId", "Id"),
        ("Host.Aws.Ec2InstanceId", "Host.Aws.Ec2InstanceId"),
        ("instanceId", "Host.Aws.Ec2InstanceId"),
        ("HOST.AWS.EC2INSTANCEID", "Host.Aws.Ec2InstanceId"),
    ],
)
def test_every_spelling_of_a_kind_is_read(kind: str, canonical: str) -> None:
    """The six spellings that documentation has for the kinds of ids are read, in any letter case."""
    (mapping,) = read(entry(kind, "10.0.0.1"))
    assert (mapping.id_type, mapping.server_id, mapping.internal_name) == (canonical, "10.0.0.1", "internal")


def test_keys_are_read_in_any_letter_case_and_null_is_none() -> None:
    names = {"INTERNALDNSNAME": "a", "externalDnsName": None}
    (mapping,) = read({"serveridtype": "id", "SERVERID": " s ", "dnsNames": names})
    assert (mapping.server_id, mapping.internal_name, mapping.external_name) == ("s", "a", None)


def test_a_plural_is_read_with_a_warning() -> None:
    found = read_mappings(json.dumps([entry(InternalDnsNames="a")]), NOW)
    assert found.mappings[0].internal_name == "a"
    assert found.warnings == ["entry 1: write InternalDnsName, without the s"]


def test_of_two_entries_for_one_server_the_later_counts() -> None:
    assert [one.internal_name for one in read(entry(InternalDnsName="a"), entry(InternalDnsName="b"))] == [
        "b"
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (5, "JSON object"),
        ({}, "ServerIdType"),
        (entry("Name"), "ServerIdType must be Ip, Id or Host.Aws.Ec2InstanceId"),
        (entry(id=""), "ServerId"),
        (entry(id=5), "ServerId"),
        (entry(id="a\nb"), "ServerId"),
        (entry(id="\ud800"), "ServerId"),
        (entry(id="x" * 300), "ServerId"),
        (entry("Ip", "999.1.1.1"), "IPv4 or IPv6"),
        (entry() | {"DnsNames": None}, "DnsNames must be a JSON object"),
        (entry() | {"DnsNames": {}}, "DnsNames must have"),
        (entry() | {"Port": 1}, "unknown field 'port'"),
        (entry(Name="a"), "unknown field 'name'"),
        (entry(InternalDnsName="a b"), "host name"),
        (entry(InternalDnsName="https://a"), "host name"),
        (entry(InternalDnsName="-a"), "host name"),
        (entry(InternalDnsName=""), "host name"),
        (entry(InternalDnsName="x." * 200), "host name"),
    ],
)
@pytest.mark.covers("B23")
def test_one_bad_entry_spoils_the_file_and_is_named(bad: Any, reason: str) -> None:
    """A file with one entry that cannot be used is refused whole; the sentence names entry and reason."""
    with pytest.raises(MappingsRefused, match="entry 2: ") as refused:
        read(entry(), bad, entry())
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[{]", "line 1, column 3"),
        ("{}", "JSON list"),
        ("[" * 100_000, "not JSON"),
        ("[ { “ServerIdType”: “Ip” } ]", "typographic quotes"),
    ],
)
def test_what_is_no_list_of_mappings_is_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(MappingsRefused, match=reason):
        read_mappings(text, NOW)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["ServerId", "DnsNames", "x"]), inner)
        ),
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    try:
        read_mappings(json.dumps(value), NOW)
    except MappingsRefused as refused:
        assert str(refused)


async def test_the_most_certain_of_several_names_counts() -> None:
    names = DnsNames((), Written())
    await names.register(
        read(
            entry("Ip", "10.0.0.1", InternalDnsName="by-address"),
            entry("instanceId", "i-1", InternalDnsName="by-instance"),
            entry("Id", "s", InternalDnsName="by-id"),
            entry("Id", "outside", ExternalDnsName="public.example"),
            entry("Ip", "FD00::1", InternalDnsName="by-ipv6"),
        )
    )
    assert names.internal_name("s", "i-1", "10.0.0.1") == "by-id"
    assert names.internal_name("other", "i-1", "10.0.0.1") == "by-instance"
    assert names.internal_name("other", None, "10.0.0.1") == "by-address"
    assert names.internal_name("outside", "i-1", None) == "by-instance", "external names are not for gateways"
    assert names.internal_name("other", None, "fd00::1") == "by-ipv6"
    assert names.internal_name("other", None, None) is None


async def test_names_are_merged_or_replaced_and_kept() -> None:
    written = Written()
    names = DnsNames((), written)
    await names.register(read(entry(id="a"), entry(id="b")))
    await names.register(read(entry(id="b", InternalDnsName="new"), entry(id="c")))
    assert {one.server_id: one.internal_name for one in names.all()} == {
        "a": "internal",
        "b": "new",
        "c": "internal",
    }
    await names.register(read(entry(id="c")), replace=True)
    assert [one.server_id for one in names.all()] == ["c"]
    assert list(written.rows) == ["Id c"]
    again = DnsNames(written.rows.values(), written)
    assert again.internal_name("c", None, None) == "internal"


async def test_what_cannot_be_kept_does_not_count() -> None:
    written = Written()
    names = DnsNames((), written)
    await names.register(read(entry()))
    written.is_down = True
    with pytest.raises(StoreUnavailable):
        await names.register(read(entry(InternalDnsName="new")), replace=True)
    assert names.internal_name("s", None, None) == "internal"
