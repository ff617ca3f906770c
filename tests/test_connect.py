import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.connect import (
    LinkForm,
    NoAddressError,
    Route,
    connection_file,
    direct_route,
    ends_soon,
    file_name,
    handed_out,
    masked,
    may_see,
    native_url,
    token_end,
    web_url,
)


def session(**server: Any) -> dict[str, Any]:
    return {"Id": "4a6f-11", "Name": "cad", "Server": {"Ip": "10.0.0.5", "Port": "8443"} | server}


HTTP = {"IpAddress": "10.0.0.5", "Port": 9443, "WebUrlPath": "/web", "Protocol": "HTTP"}
QUIC = {"IpAddress": "10.0.0.5", "Port": 9444, "WebUrlPath": "", "Protocol": "QUIC"}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwt(**claims: Any) -> str:
    return f"aGVhZA.{_base64(json.dumps(claims).encode())}.c2ln"


@pytest.mark.covers("W1")
def test_links_are_those_of_the_guide_byte_for_byte() -> None:
    """Links for browsers and native clients are exactly as the developer guide builds them."""
    place = session(WebUrlPath="/")
    assert web_url(place, "eyJ.a-b_c.d") == "https://10.0.0.5:8443/?authToken=eyJ.a-b_c.d#4a6f-11"
    assert native_url(place, "eyJ.a-b_c.d") == "dcv://10.0.0.5:8443/?authToken=eyJ.a-b_c.d#4a6f-11"


@pytest.mark.covers("W2")
def test_a_gateway_replaces_host_and_port_only() -> None:
    """By way of a gateway only host and port of a link change."""
    url = web_url(session(Endpoints=[HTTP]), "t", Route("gw.example.com", 443))
    assert url == "https://gw.example.com:443/web?authToken=t#4a6f-11"


@pytest.mark.covers("W3")
@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"Ip": "fd00::5"}, "https://[fd00::5]:8443/?authToken=t#4a6f-11"),
        ({"WebUrlPath": "/a b/ü"}, "https://10.0.0.5:8443/a%20b/%C3%BC?authToken=t#4a6f-11"),
        ({"WebUrlPath": "no-slash"}, "https://10.0.0.5:8443/no-slash?authToken=t#4a6f-11"),
        ({"WebUrlPath": "/?x#y"}, "https://10.0.0.5:8443/%3Fx%23y?authToken=t#4a6f-11"),
        ({"Ip": "fe80::1%eth0"}, "https://[fe80::1%25eth0]:8443/?authToken=t#4a6f-11"),
        ({"Port": 8444}, "https://10.0.0.5:8444/?authToken=t#4a6f-11"),
    ],
)
def test_addresses_and_odd_characters_are_written_as_urls_want_them(
    changes: dict[str, Any], url: str
) -> None:
    """IPv6 addresses stand in brackets, and what a path cannot hold is escaped."""
    assert web_url(session(**changes), "t") == url


@pytest.mark.covers("W3")
def test_token_and_id_are_escaped_outside_unreserved_characters() -> None:
    """Tokens and ids of any characters make a link that holds them unchanged."""
    odd = session() | {"Id": "console #1"}
    assert web_url(odd, "a+b/c=") == "https://10.0.0.5:8443/?authToken=a%2Bb%2Fc%3D#console%20%231"


def test_the_endpoint_for_browsers_with_the_servers_own_address_is_taken() -> None:
    other = HTTP | {"IpAddress": "192.168.0.9", "Port": 1}
    assert direct_route(session(Endpoints=[QUIC, other, HTTP])) == Route("10.0.0.5", 9443)
    assert direct_route(session(Endpoints=[QUIC, other])) == Route("192.168.0.9", 1)
    assert direct_route(session(Endpoints=[QUIC])) == Route("10.0.0.5", 8443)


def test_a_server_tag_carries_the_public_address() -> None:
    tags = [{"Key": "public_ipv4", "Value": "203.0.113.7"}, {"Key": "name", "Value": "gpu.example"}]
    assert direct_route(session(Tags=tags)) == Route("203.0.113.7", 8443)
    assert direct_route(session(Tags=tags), "name") == Route("gpu.example", 8443)
    assert direct_route(session(Tags=tags), "none") == Route("10.0.0.5", 8443)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"Server": None},
        session(Ip=None),
        session(Ip="a b"),
        session(Ip="evil.example/?x="),
        session(Port="x"),
        session(Port=None),
    ],
)
def test_a_session_without_an_address_is_one_sentence(broken: dict[str, Any]) -> None:
    with pytest.raises(NoAddressError, match="does not say at which address"):
        web_url(broken, "t")


@pytest.mark.parametrize("value", ["gw.example/?x=", "a b", "a\nb", "user@gw", "gw:1:2:g", "https://gw"])
def test_a_tag_that_holds_no_address_is_said_and_not_linked_to(value: str) -> None:
    with pytest.raises(NoAddressError, match="public_ipv4"):
        web_url(session(Tags=[{"Key": "public_ipv4", "Value": value}]), "t")


def test_every_form_holds_the_token_and_the_way() -> None:
    place, way = session(WebUrlPath="/"), Route("fd00::1", 443)
    assert handed_out(LinkForm.WEB, place, "t", "ana", way) == "https://[fd00::1]:443/?authToken=t#4a6f-11"
    assert handed_out(LinkForm.NATIVE, place, "t", "ana", way) == "dcv://[fd00::1]:443/?authToken=t#4a6f-11"
    assert "\nhost=fd00::1\nport=443\n" in handed_out(LinkForm.FILE, place, "t", "ana", way)
    answer = json.loads(handed_out(LinkForm.JSON, place, "t", "ana", way))
    assert answer == {"Session": place, "ConnectionToken": "t"}


@pytest.mark.parametrize(
    ("text", "user", "sees"),
    [
        ("[permissions]\n%owner% allow builtin\n", "ana", True),
        ("[permissions]\n%owner% allow builtin\n", "bob", False),
        ("[permissions]\nbob allow display\n", "bob", True),
        ("[permissions]\nbob allow clipboard-copy\n", "bob", False),
        ("", "ana", False),
        ("nonsense", "ana", False),
    ],
)
def test_who_sees_a_session_is_read_from_its_permissions(text: str, user: str, sees: bool) -> None:
    assert may_see(text, "ana", user) is sees


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("gw.example:8443", Route("gw.example", 8443)),
        ("[fd00::1]:443", Route("fd00::1", 443)),
        (" 10.1.1.1:1 ", Route("10.1.1.1", 1)),
    ],
)
def test_a_gateway_is_read(text: str, route: Route) -> None:
    assert Route.read(text) == route


@pytest.mark.parametrize(
    "text", ["", "gw", "gw:", "gw:0", "gw:65536", "fd00::1:443", "https://gw:1", "a b:1"]
)
def test_what_is_no_gateway_is_one_sentence(text: str) -> None:
    with pytest.raises(NoAddressError, match=r"gateway\.example:8443"):
        Route.read(text)


@pytest.mark.covers("W4")
def test_the_connection_file_begins_with_its_version_and_holds_no_password() -> None:
    """A connection file begins with the version that clients insist on, and never holds a password."""
    text = connection_file(session(Endpoints=[HTTP]), "eyJ.t", "CORP\\ana", Route("gw.example.com", 8443))
    assert text == (
        "[version]\nformat=1.0\n\n[connect]\nhost=gw.example.com\nport=8443\nweburlpath=/web\n"
        "sessionid=4a6f-11\nuser=CORP\\ana\nauthtoken=eyJ.t\n"
    )


@pytest.mark.covers("W4")
@pytest.mark.parametrize("user", ["ana\npassword=x", "ana\r", "a\x00", "a\x85", "a\u2028b"])
def test_a_value_with_a_line_break_is_refused(user: str) -> None:
    """No value can smuggle a line, such as a password, into a connection file."""
    with pytest.raises(NoAddressError, match="user"):
        connection_file(session(), "t", user)


@pytest.mark.parametrize(
    ("user", "name", "expected"),
    [
        ("ana", "cad-1", "ana_cad-1.dcv"),
        ("CORP\\ana", "my session", "CORP-ana_my-session.dcv"),
        ("../../etc", "passwd\n", "etc_passwd.dcv"),
        ("", "", "session.dcv"),
        ("bücher", "日本", "bücher_日本.dcv"),
    ],
)
def test_file_names_are_safe_everywhere(user: str, name: str, expected: str) -> None:
    assert file_name(user, name) == expected


def test_file_names_stay_short() -> None:
    assert len(file_name("u" * 300, "n" * 300)) < 130


def test_the_end_of_a_token_is_read_without_checking_it() -> None:
    assert token_end(jwt(exp=1_800_000_000)) == datetime.fromtimestamp(1_800_000_000, UTC)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "opaque",
        "a.b",
        "a.b.c",
        "a.!!!!.c",
        "a.ü.c",
        f"a.{_base64(b'[1]')}.c",
        f"a.{_base64(b'[' * 100_000)}.c",
        jwt(),
        jwt(exp="soon"),
        jwt(exp=1e300),
        jwt(exp=None),
    ],
)
def test_a_token_that_does_not_tell_its_end_has_none(token: str) -> None:
    assert token_end(token) is None


@given(st.lists(st.one_of(st.text(), st.binary().map(_base64)), min_size=3, max_size=3).map(".".join))
def test_any_token_is_read_without_a_crash(token: str) -> None:
    end = token_end(token)
    assert end is None or end.tzinfo is UTC


def test_a_token_ends_soon_within_five_minutes() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert ends_soon(now + timedelta(minutes=5), now)
    assert not ends_soon(now + timedelta(minutes=6), now)
    assert ends_soon(now - timedelta(hours=1), now)
    assert not ends_soon(None, now)


def test_a_masked_text_holds_no_token() -> None:
    token = "a+secret/token"
    for text in (web_url(session(), token), connection_file(session(), token, "ana"), token):
        assert "secret" not in masked(text, token)
    assert masked(web_url(session(), token), token) == "https://10.0.0.5:8443/?authToken=••••••••#4a6f-11"
    assert masked(token) == "••••••••"
    assert masked("") == ""


# ------------------------------------------------------------------ whatever is in them

NAMES = st.text(min_size=1, max_size=40).filter(lambda text: text.strip() == text)


@pytest.mark.covers("W3")
@given(token=NAMES, identity=NAMES, path=st.text(max_size=20))
def test_a_link_says_what_went_into_it_whatever_that_is(token: str, identity: str, path: str) -> None:
    """A link parses back to the host, the path, the token and the id it was made of."""
    place = session(Ip="fd00::5", WebUrlPath=path) | {"Id": identity}
    for link in (web_url(place, token), native_url(place, token)):
        parts = urlsplit(link)
        assert (parts.hostname, parts.port) == ("fd00::5", 8443)
        assert parts.query.startswith("authToken=")
        assert unquote(parts.query.removeprefix("authToken=")) == token
        assert unquote(parts.fragment) == identity
        assert parts.path.startswith("/")
        assert link.isascii()
        assert not any(character.isspace() for character in link)


def test_half_a_surrogate_pair_from_a_broker_is_no_crash() -> None:
    odd = session() | {"Id": "a\ud800b"}
    assert web_url(odd, "t\udfff") == "https://10.0.0.5:8443/?authToken=t%3F#a%3Fb"
    assert "\udfff" not in masked(web_url(odd, "t\udfff"), "t\udfff")
    with pytest.raises(NoAddressError, match="sessionid"):
        connection_file(odd, "t", "ana")
    assert json.loads(handed_out(LinkForm.JSON, odd, "t", "ana"))["Session"]["Id"] == "a\ud800b"


@pytest.mark.covers("W4")
@given(token=NAMES, user=NAMES, identity=NAMES)
def test_a_connection_file_holds_six_lines_whatever_is_in_them(token: str, user: str, identity: str) -> None:
    """A connection file parses back to what went into it, or is refused; nothing makes a line."""
    try:
        text = connection_file(session() | {"Id": identity}, token, user)
    except NoAddressError:
        assert any(not one.isprintable() for one in token + user + identity)
        return
    head, _, rest = text.partition("\n\n[connect]\n")
    assert head == "[version]\nformat=1.0"
    values = dict(line.split("=", 1) for line in rest.splitlines())
    assert list(values) == ["host", "port", "weburlpath", "sessionid", "user", "authtoken"]
    assert (values["sessionid"], values["user"], values["authtoken"]) == (identity, user, token)
