"""What the console is measured against: a bare Textual program, Textual's own table, the console unswept.

Run as `python -m tests.bench.floor_program bare`, `datatable ROWS [CHANGES]` or `unswept`;
each in a process of its own, so that start-up counts as a person sees it.
"""

import os
import sys
from pathlib import Path


def bare() -> None:
    """A program that shows one sentence."""
    from textual.app import App, ComposeResult
    from textual.widgets import Static

    class BareApp(App[None]):
        def compose(self) -> ComposeResult:
            yield Static("bare program ready")

    BareApp().run()


def datatable(rows: int, changes: int = 0) -> None:
    """A table of nine columns, filled from memory; says when all rows are in it.

    So many rows change each second from then on.
    """
    from textual.app import App, ComposeResult
    from textual.widgets import DataTable, Static

    class TableApp(App[None]):
        def compose(self) -> ComposeResult:
            yield Static("", id="said")
            yield DataTable[str](cursor_type="row")

        def on_mount(self) -> None:
            table = self.query_one(DataTable)
            heads = ("NAME", "OWNER", "STATE", "TYPE", "SERVER", "CLIENTS", "IDLE", "AGE", "ID")
            table.add_columns(*heads)
            for number in range(rows):
                server, count = f"gpu-{number % 2000:05}", str(number % 3)
                cells = (
                    f"cad-{number:06}",
                    "ana",
                    "● READY",
                    "VIRTUAL",
                    server,
                    count,
                    "-",
                    "5 h",
                    str(number),
                )
                table.add_row(*cells, key=str(number))
            table.focus()
            self.query_one("#said", Static).update("table program ready")
            if changes:
                self.place = 0
                self.set_interval(0.1, self.change)

        def change(self) -> None:
            table = self.query_one(DataTable)
            column = list(table.columns)[5]
            for _ in range(changes // 10):
                self.place += 1
                table.update_cell(str(self.place * 50 % rows), column, str(self.place % 5))

    TableApp().run()


def unswept() -> None:
    """The console as it is, but for its sweeps: what is not on screen is read once."""
    from dcvtui.config import Connection, Credentials
    from dcvtui.polling import Pace
    from dcvtui.trust import Trust
    from dcvtui.tui.app import ConsoleOptions, run

    environ = os.environ
    credentials = Credentials(environ["DCV_SM_CLIENT_ID"], environ["DCV_SM_CLIENT_PASSWORD"])
    trust = Trust(ca_file=Path(environ["DCV_SM_CA_BUNDLE"]))
    pace = Pace(page_s=3600, small_fleet_s=3600)
    run(Connection("floor", environ["DCV_SM_BROKER_URL"], credentials, trust), ConsoleOptions(pace=pace))


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    {"bare": bare, "unswept": unswept}[what]() if not given else datatable(*map(int, given))
