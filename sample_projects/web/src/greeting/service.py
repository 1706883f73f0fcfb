"""The service itself: two pages, as a WSGI application."""

import bottle

application = bottle.Bottle()


@application.get("/")
@application.get("/hello/<name>")
def hello(name: str = "world") -> dict[str, str]:
    return {"greeting": f"Hello, {name}!"}


@application.get("/health")
def health() -> str:
    return "ok"
