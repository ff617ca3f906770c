"""Texts and small tools that the tests of permissions files share, most of them from the specification."""

from collections.abc import Callable

from dcvtui.api.permissions import ANYWHERE, FEATURES, Context, PermissionsFile, parse

ALL = frozenset(FEATURES)
Importer = Callable[[str], str | bytes]


def features(text: str) -> frozenset[str]:
    return frozenset(text.split())


def files(**contents: str | bytes) -> Importer:
    """Imports from files that exist only here; a name's underscores stand for dots and slashes."""
    by_path = {name.replace("__", "/").replace("_", "."): content for name, content in contents.items()}

    def read(path: str) -> str | bytes:
        if path.startswith("/secret"):
            raise PermissionError(path)
        try:
            return by_path[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    return read


def found(file: PermissionsFile) -> list[str]:
    """The findings as `line:column CODE`, those of imported files with their name before."""
    return [f"{one.file} {one.line}:{one.column} {one.code}".strip() for one in file.diagnostics]


def codes(text: str | bytes, context: Context = ANYWHERE) -> set[str]:
    return {one.code for one in parse(text, context=context).diagnostics}


STOCK = "[permissions]\n%owner% allow builtin\n"
NESTED_GROUPS = """\
[groups]
leads=bob, user:eve
team=group:leads, osgroup:cad

[permissions]
%owner% allow builtin
group:team allow display pointer mouse keyboard
group:leads allow clipboard-copy clipboard-paste
"""
NESTED_ALIASES = """\
[aliases]
clip=clipboard-copy, clipboard-paste
data=file-upload, file-download, clip
[permissions]
%owner% allow builtin
bob allow display data
bob disallow clip
"""
IMPORTING = """\
#import base.perm
; local rules
[permissions]
%owner% allow builtin
bob allow display io
"""
BASE = "[aliases]\nio=keyboard, mouse, pointer\n[permissions]\n%any% deny printer\n"
THREE_BAD = """\
[permissions]
%owner% allow builtin
bob permit display
%user% allow display
cid allow
"""
WRONG_DEFINITIONS = """\
[groups]
a=group:b
b=group:a, bob,
[aliases]
display=keyboard
[permissions]
group:a allow display
group:ops allow builtin
bob allow displya
"""
CYCLE = "#import a.perm\n[permissions]\n%owner% allow builtin # all\n"
OS_GROUP = "[permissions]\n%owner% allow builtin\nosgroup:cad allow display pointer\ndan disallow pointer\n"

CYCLE_FILES = files(a_perm="#import b.perm\n", b_perm="#import a.perm\n")
