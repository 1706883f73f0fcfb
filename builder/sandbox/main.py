"""The fork server's program: ``python -I -S main.py``, with its socket as descriptor 3.

It must start fast and share nothing with the builder, so the package `builder` is not imported: two empty modules stand in
for it, and only this folder can be found through them (as compiled files, which a program's own file never is).
"""

import os
import sys

for _name, _path in (("builder", []), ("builder.sandbox", [os.path.dirname(os.path.abspath(__file__))])):
    _module = type(sys)(_name)
    _module.__path__ = _path
    sys.modules[_name] = _module

from builder.sandbox.serve import main  # noqa: E402 after the stand-ins, on purpose

main()
