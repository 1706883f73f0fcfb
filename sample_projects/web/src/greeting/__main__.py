"""`python3 -m greeting --serve`, `--ask` (is the service on this machine well?), `--check` (serve, ask once, end)."""

import os
import sys
import threading
import urllib.request

from waitress.server import create_server

from greeting.service import application


def ask(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3) as answer:
        return str(answer.read().decode())


def main(arguments: list[str]) -> int:
    port = int(os.environ.get("PORT", "8080"))
    if arguments == ["--ask"]:
        return 0 if ask(port, "/health") == "ok" else 1
    if arguments == ["--serve"]:
        print(f"serving on port {port}")
        create_server(application, port=port).run()
        return 0
    if arguments == ["--check"]:
        # Any free port: what else runs on the network of this machine does not matter.
        server = create_server(application, host="127.0.0.1", port=0)
        threading.Thread(target=server.run, daemon=True).start()
        print(ask(server.effective_port, "/health"), ask(server.effective_port, "/hello/image"))
        return 0
    print("usage: python3 -m greeting --serve | --ask | --check", file=sys.stderr)
    return 2


sys.exit(main(sys.argv[1:]))
