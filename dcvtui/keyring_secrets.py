"""Client secrets in the desktop's keyring, where the optional package `keyring` is installed and one answers.

Each is stored under the broker's address and the client id, so that a profile
whose address is changed by hand finds none and sends none.
"""

from typing import Any

_SERVICE = "dcvtui "


def keep(url: str, client_id: str, secret: str) -> bool:
    """Put a secret into the keyring.

    Returns:
        False if there is no keyring that takes it; it then belongs into a file.
    """
    keyring = _keyring()
    if keyring is None:
        return False
    try:
        keyring.set_password(_SERVICE + url, client_id, secret)
        return bool(keyring.get_password(_SERVICE + url, client_id) == secret)
    except Exception:  # noqa: BLE001  backends of many makers raise what they like; the file is the way then
        return False


def secret_for(url: str, client_id: str) -> str | None:
    """The secret kept for a client of a broker; None if the keyring has none or does not answer."""
    keyring = _keyring()
    if keyring is None:
        return None
    try:
        found: str | None = keyring.get_password(_SERVICE + url, client_id)
    except Exception:  # noqa: BLE001  as above
        return None
    return found


def forget(url: str, client_id: str) -> None:
    """Take a secret out of the keyring; one that is not there is no matter."""
    keyring = _keyring()
    if keyring is not None:
        try:
            keyring.delete_password(_SERVICE + url, client_id)
        except Exception:  # noqa: BLE001  as above
            return


def _keyring() -> Any:
    """The package, if it is installed and has found a keyring that keeps things."""
    try:
        import keyring  # type: ignore[import-not-found]  # noqa: PLC0415  optional, and slow to load
    except ImportError:
        return None
    try:
        # The package's own "there is none" has the priority 0, "keep nothing" -1.
        return keyring if keyring.get_keyring().priority > 0 else None
    except Exception:  # noqa: BLE001  as above
        return None
