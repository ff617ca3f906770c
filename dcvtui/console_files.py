"""Where the files of the console are: what its operator writes, and what it writes itself."""

from dataclasses import dataclass
from pathlib import Path

from dcvtui.private_files import file_stem


@dataclass(frozen=True, slots=True)
class ConsoleFiles:
    """The console's own files; profiles are in `dcvtui.config`.

    Attributes:
        settings: how the operator wants the console; never written from here.
        state: the folder of what the console remembers and keeps.
    """

    settings: Path
    state: Path

    @property
    def saved(self) -> Path:
        """Columns, filters and forms saved by name."""
        return self.state / "saved.json"

    @property
    def audit(self) -> Path:
        """What was done, a line of JSON each."""
        return self.state / "audit.jsonl"

    def permissions(self, profile: str) -> Path:
        """The permissions texts sent to the sessions of a profile's broker."""
        return permissions_file(self.state, profile)

    @classmethod
    def standard(cls) -> "ConsoleFiles":
        """The usual places on this system."""
        import platformdirs  # noqa: PLC0415  the pure parts need no file

        return cls(
            platformdirs.user_config_path("dcvtui") / "settings.toml", platformdirs.user_state_path("dcvtui")
        )


def permissions_file(state: Path, profile: str) -> Path:
    """Where in the folder of what is remembered the texts sent to a profile's broker are."""
    return state / f"permissions-{file_stem(profile)}.json"
