"""Values by key in an SQLite file: finished ones survive a kill, several threads and processes may write."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from seqdistill.io import UserError, display_path


class Cache:
    """A table of values by key, in a file that is created if it does not exist."""

    def __init__(self, path: Path, table: str):
        self.path, self.table, self.lock = path, table, threading.Lock()

    @cached_property
    def connection(self) -> sqlite3.Connection:
        """Connection to the file. It stays open: closing writes the journal back, which takes longer than an answer."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {self.table} (key TEXT PRIMARY KEY, value NOT NULL)")
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction, to one thread at a time; UserError if SQLite fails."""
        try:
            with self.lock, self.connection as connection:
                yield connection
        except sqlite3.DatabaseError as error:
            damaged = getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            advice = " Stop what uses it, remove it, and run again." if damaged else ""
            raise UserError(f"{display_path(self.path)}: {error}.{advice}") from None

    def get(self, keys: Iterable[str]) -> dict[str, str | bytes]:
        """Return the stored values of `keys`; keys without one are left out."""
        with self.transaction() as connection:
            rows = (connection.execute(f"SELECT * FROM {self.table} WHERE key = ?", (key,)) for key in set(keys))
            return dict(row for cursor in rows for row in cursor)

    def put(self, values: dict[str, str | bytes]) -> None:
        """Store values, all of them or none."""
        with self.transaction() as connection:
            connection.executemany(f"INSERT OR REPLACE INTO {self.table} VALUES (?, ?)", values.items())
