"""Users of this host: looked up, refused, and what their processes start with."""

import os
import pwd
from pathlib import Path

import pytest

from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.owners import find_owner
from tests.agent.x_sessions import ME, OTHER, needs_root


def test_a_local_user_is_found_with_all_groups() -> None:
    entry = pwd.getpwnam(ME)
    owner = find_owner(ME, minimum_uid=0)
    assert (owner.name, owner.uid, owner.gid, owner.home) == (ME, entry.pw_uid, entry.pw_gid, entry.pw_dir)
    assert set(owner.groups) == set(os.getgrouplist(ME, entry.pw_gid))


@pytest.mark.parametrize("name", ["no-such-user", "", "a\0b", "DOMAIN\\user"])
def test_an_unknown_user_is_refused_in_the_words_the_broker_knows(name: str) -> None:
    with pytest.raises(BackendError) as refused:
        find_owner(name, minimum_uid=0)
    assert (refused.value.code, refused.value.message) == (
        Failure.OWNER_NOT_FOUND,
        "Specified user is not a local user",
    )


@needs_root
def test_an_agent_that_is_not_root_starts_sessions_for_its_own_user_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam(OTHER).pw_uid)
    assert find_owner(OTHER, minimum_uid=100_000).name == OTHER
    with pytest.raises(BackendError, match=f"for {OTHER} only"):
        find_owner("root", minimum_uid=0)


@needs_root
def test_the_system_is_asked_as_the_owner(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    (tmp_path / "mine").chmod(0o600)
    assert find_owner("root", 0).may("-r", tmp_path / "mine")
    assert not find_owner(OTHER, 0).may("-r", tmp_path / "mine")
