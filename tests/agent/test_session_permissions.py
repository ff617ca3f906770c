"""Who may do what in an X session, by its permissions file."""

import getpass
import grp
import os

import pytest

from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.session_permissions import check, rights_of

ME = getpass.getuser()


def test_without_a_file_everything_is_the_owners_alone() -> None:
    assert {"display", "keyboard", "clipboard-paste"} <= rights_of(None, "ana", "ana")
    assert rights_of(None, "ana", "bob") == frozenset()


def test_an_empty_file_is_nobodys_not_even_the_owners() -> None:
    assert rights_of("", "ana", "ana") == frozenset()


def test_a_file_says_who_may_what() -> None:
    text = "[permissions]\n%owner% allow builtin\n%any% allow display\nbob deny display\n"
    assert rights_of(text, "ana", "cem") == {"display"}
    assert "display" not in rights_of(text, "ana", "bob")


def test_groups_are_those_of_this_host() -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    text = f"[permissions]\nosgroup:{group} allow display\n"
    assert rights_of(text, "ana", ME) == {"display"}
    assert rights_of(text, "ana", "somebody-this-host-does-not-know") == frozenset()
    assert rights_of(text, "ana", "nul\0l") == frozenset()


def test_a_text_with_errors_is_refused_with_the_line() -> None:
    with pytest.raises(BackendError, match=r"wrong in line 3: .*permit") as refused:
        check("[permissions]\n%owner% allow builtin\nbob permit display\n")
    assert refused.value.code is Failure.PERMISSIONS_INVALID


@pytest.mark.parametrize(
    "text", [None, "", "[permissions]\nbob allow a-newer-feature\n", "#import base.perm\n[permissions]\n"]
)
def test_what_is_no_error_or_right_elsewhere_is_let_pass(text: str | None) -> None:
    check(text)
