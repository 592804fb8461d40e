"""Characters that a terminal or a pipe cannot show, in forms that it can."""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper

_ERRORS = "ntklens-plain"
"""Name under which Python knows the function that replaces characters."""
_FORMS = (
    "ε eps|η eta|λ lambda|ρ rho|θ theta|Θ Theta|τ tau|σ sigma|Δ Delta|α alpha|β beta|∞ inf|ℓ l|₂ 2|² ^2|≤ <=|≥ >=|≠ !=|"
    '× x|· *|± +-|√ sqrt|→ ->|← <-|– -|— -|− -|… ...|° deg|“ "|” "|„ "|‘ \'|’ \'|• -|━ -|╸ -|╺ -'
)
_PLAIN = dict(form.split(" ", 1) for form in _FORMS.split("|"))
"""Plain forms of characters in our sentences; any other that cannot be encoded becomes a question mark."""


def replace_what_cannot_be_shown() -> None:
    """Let standard output and standard error replace characters that their encoding lacks, where they would raise an error.

    Redirected output has the code page of the system on Windows, and ASCII in a POSIX locale. File names that are not
    UTF-8 cannot be written in any encoding.
    """
    codecs.register_error(_ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def can_show(text: str) -> bool:
    """Return whether standard output can write a text as it is."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return the plain form of the characters that cannot be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end
