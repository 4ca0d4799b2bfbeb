"""Values on disk by key (SQLite): what is finished survives a kill, several processes may write, damage is named."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from seqdistill.io import UserError, display_path, unwritable

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Cache:
    """A table of values by key, in a file that is made when it is not there."""

    def __init__(self, path: Path, table: str):
        self.path, self.table = path, table
        with self.opened() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, value NOT NULL)")
            columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
            if columns != ["key", "value"]:
                error = sqlite3.DatabaseError(f"columns {', '.join(columns)}")
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Open a connection that waits for other writers; a damaged file is set aside and named."""
        name = display_path(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                connection.execute("PRAGMA synchronous = NORMAL")
                yield connection
        except (OSError, sqlite3.DatabaseError) as error:
            if why := unwritable(error):
                raise UserError(f"{name}: {why}; what it holds is kept.") from None
            if getattr(error, "sqlite_errorcode", None) not in DAMAGED:
                raise
            self.path.replace(self.path.with_name(f"{self.path.name}.damaged"))
            for journal in ("-wal", "-shm"):
                self.path.with_name(self.path.name + journal).unlink(missing_ok=True)
            raise UserError(f"{name}: damaged; set aside as {self.path.name}.damaged. Run again.") from None

    def get(self, keys: Iterable[str]) -> dict[str, str | bytes]:
        """Return the values that are there among those of `keys`."""
        with self.opened() as connection:
            rows = (connection.execute(f"SELECT * FROM {self.table} WHERE key = ?", (key,)) for key in set(keys))
            return dict(row for cursor in rows for row in cursor)

    def put(self, values: dict[str, str | bytes]) -> None:
        """Store values, all of them or none."""
        with self.opened() as connection:
            connection.executemany(f"INSERT OR REPLACE INTO {self.table} VALUES (?, ?)", values.items())
