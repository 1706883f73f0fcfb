"""What is said at the end of a build: warnings, what was built, what was written; or the error. Pure."""

from __future__ import annotations

from builder.events import BuildStarted, BuildWarning, CacheImported, ExportFinished
from builder.report.text import clean
from builder.report.units import duration, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.events import BuildFinished


class Summary:
    """Gathers what the end needs; shared by the plain and the tty reader. Every text ends with a line end or is empty."""

    def __init__(self, *, color: bool) -> None:
        self._bold, self._yellow, self._reset = ("\x1b[1m", "\x1b[33m", "\x1b[0m") if color else ("", "", "")
        self._dockerfile = ""
        self._warnings: list[BuildWarning] = []
        self._imports: list[CacheImported] = []
        self._exports: list[ExportFinished] = []
        self._ended = False

    def note(self, event: BuildStarted | BuildWarning | CacheImported | ExportFinished) -> str:
        """Keeps the event for the end; after the end, the text to show at once."""
        match event:
            case BuildStarted(dockerfile):
                self._dockerfile = dockerfile
            case BuildWarning():
                self._warnings.append(event)
            case CacheImported():
                self._imports.append(event)
            case ExportFinished():
                self._exports.append(event)
        return self.rest() if self._ended else ""

    def finished(self, event: BuildFinished) -> str:
        """The warnings, then what was built. Ends the build."""
        self._ended = True
        names = ", ".join(map(clean, event.names))
        head = f"built {names} in" if names else "built in"
        rows = [
            ("index" if event.platforms else "image id", event.image_id),
            *([("for", ", ".join(event.platforms))] if event.platforms else []),
            ("size", f"{size(event.size)} in {event.layers} layer{'' if event.layers == 1 else 's'}"),
            ("steps", f"{event.ran} ran, {event.cached} cached"),
        ]
        rows += [
            ("imported", f"{each.steps} step{'' if each.steps == 1 else 's'} from the {clean(each.cache)}, {size(each.size)}")
            for each in self._imports
            # Where the store knew all, no cache was asked.
            if each.steps or event.ran
        ]
        if event.skipped:
            rows.append(("skipped", ", ".join(map(clean, event.skipped))))
        text = "".join(f"  {title:<9} {value}\n" for title, value in rows)
        return f"{self._warned(blank=True)}{self._bold}{head} {duration(event.seconds)}{self._reset}\n{text}{self._wrote()}"

    def failed(self, error: str) -> str:
        """The warnings, what was written all the same, then `error` (rendered already), last where a person looks first."""
        self._ended = True
        return f"{self._warned(blank=True)}{self._wrote()}{error}\n"

    def rest(self) -> str:
        """What no end has told: the warnings and outputs of a stream that broke off, or that came after the end."""
        return self._warned(blank=False) + self._wrote()

    def _warned(self, *, blank: bool) -> str:
        warnings, self._warnings = self._warnings, []
        text = "".join(map(self._warning, warnings))
        return text + "\n" if text and blank else text

    def _warning(self, event: BuildWarning) -> str:
        file = clean(event.file or self._dockerfile)
        place = f"{event.line}:{event.column}" if event.column else f"{event.line}"
        where = f"{file}:{place}: " if event.line and file else ""
        return f"{where}{self._yellow}warning:{self._reset} {clean(event.message)} ({event.code})\n"

    def _wrote(self) -> str:
        exports, self._exports = self._exports, []
        return "".join(
            f"  {'wrote':<9} {clean(e.output)}{e.digest and ' ' + e.digest}, {size(e.size)} in {duration(e.seconds)}\n"
            for e in exports
        )
