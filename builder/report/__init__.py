"""Three readers of one event stream: tty for people, plain for logs, json for programs (and quiet: errors alone).

Promises: `emit` never loses an event and never blocks for long on a slow terminal without bounding memory; nothing that a
step prints or a Dockerfile says can move the cursor, change the terminal's modes or forge another step's line. Does not
protect against a reader that parses plain text: programs read the JSON form (docs/events.md).
"""
