"""SQLite without what Python's `sqlite3` puts around it (its adapters for dates import `datetime`): 2 ms of a cached build; and
without `functools`, of which the module in C wants one name: 4 ms, a fifth of what starting Python takes."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _sqlite3 import Connection as Connection
    from _sqlite3 import DatabaseError as DatabaseError
    from _sqlite3 import Error as Error
    from _sqlite3 import OperationalError as OperationalError
    from _sqlite3 import connect as connect
else:

    def _load():
        if "functools" in sys.modules:
            import _sqlite3

            return _sqlite3
        try:
            from _functools import _lru_cache_wrapper
        except ImportError:
            import _sqlite3

            return _sqlite3
        # When it is imported it takes `lru_cache`, for each connection's statements. What that makes is of C alone.
        stand_in = type(sys)("functools")
        stand_in.lru_cache = lambda size: lambda function: _lru_cache_wrapper(function, size, False, tuple)
        sys.modules["functools"] = stand_in
        try:
            import _sqlite3
        finally:
            del sys.modules["functools"]
        return _sqlite3

    _module = _load()
    Connection, connect = _module.Connection, _module.connect
    Error, DatabaseError, OperationalError = _module.Error, _module.DatabaseError, _module.OperationalError
