"""SQLite without what Python's `sqlite3` puts around it (its adapters for dates import `datetime`): 2 ms of a cached build."""

from __future__ import annotations

from _sqlite3 import Connection as Connection
from _sqlite3 import DatabaseError as DatabaseError
from _sqlite3 import Error as Error
from _sqlite3 import OperationalError as OperationalError
from _sqlite3 import connect as connect
