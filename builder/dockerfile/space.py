"""White space as BuildKit sees it: Go's `unicode.IsSpace`, which is not what `str.isspace` says (U+001C to U+001F)."""

from __future__ import annotations

SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""For `str.strip` and as the inside of a regular expression's class."""

ASCII_SPACE = "\t\v\f\r "
"""What separates a keyword from its arguments, and words that have no quotes."""
