"""Values by key in an SQLite file: finished ones survive a kill, several processes may write, damage is reported."""

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seqdistill.io import UserError, display_path

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Cache:
    """A table of values by key, in a file that is created if it does not exist."""

    def __init__(self, path: Path, table: str):
        self.path, self.table, self.connection, self.opens = path, table, None, None
        self.lock = threading.RLock()
        with self.opened():
            pass

    def current(self) -> sqlite3.Connection:
        """Return this process's connection to the file; open a new one if the file was replaced or removed."""
        here = (os.getpid(), self.path.stat().st_ino if self.path.exists() else None)
        if self.connection and self.opens == here:
            return self.connection
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        with self.connection:
            self.connection.execute(f"CREATE TABLE IF NOT EXISTS {self.table} (key TEXT PRIMARY KEY, value NOT NULL)")
        columns = [name for _, name, *_ in self.connection.execute(f"PRAGMA table_info({self.table})")]
        if columns != ["key", "value"]:
            error = sqlite3.DatabaseError(f"columns {', '.join(columns)}")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        self.opens = (os.getpid(), self.path.stat().st_ino)
        return self.connection

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that waits for other writers, in one transaction; a damaged file is renamed (UserError).

        It stays open: closing the last connection writes the whole journal back, which takes longer than an answer.
        """
        name = display_path(self.path)
        with self.lock:
            try:
                connection = self.current()
                with connection:
                    yield connection
            except (OSError, sqlite3.DatabaseError) as error:
                self.close()
                if isinstance(error, OSError | sqlite3.OperationalError):
                    raise UserError(f"{name}: {error}; what it holds is kept.") from None
                if getattr(error, "sqlite_errorcode", None) not in DAMAGED:
                    raise
                self.path.replace(self.path.with_name(f"{self.path.name}.damaged"))
                for journal in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + journal).unlink(missing_ok=True)
                raise UserError(f"{name}: damaged; set aside as {self.path.name}.damaged. Run again.") from None

    def close(self) -> None:
        """Close the connection, unless a parent process opened it; the next access opens another."""
        if self.connection and (self.opens is None or self.opens[0] == os.getpid()):
            self.connection.close()
        self.connection = self.opens = None

    def __del__(self):
        """Close the connection with the object; the garbage collector would leave it open for long."""
        self.close()

    def get(self, keys: Iterable[str]) -> dict[str, str | bytes]:
        """Return the stored values of `keys`; keys without one are left out."""
        with self.opened() as connection:
            rows = (connection.execute(f"SELECT * FROM {self.table} WHERE key = ?", (key,)) for key in set(keys))
            return dict(row for cursor in rows for row in cursor)

    def put(self, values: dict[str, str | bytes]) -> None:
        """Store values, all of them or none."""
        with self.opened() as connection:
            connection.executemany(f"INSERT OR REPLACE INTO {self.table} VALUES (?, ?)", values.items())
