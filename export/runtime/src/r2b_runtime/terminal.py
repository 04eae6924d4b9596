"""Makes text from files safe to print.

r2b_zoo and r2b_runtime have identical copies of this file, because neither depends on the other; a test compares them.
"""

import unicodedata

# Unicode categories of control characters, invisible formatting (including marks that reverse the writing direction),
# surrogates (for bytes of file names that are not UTF-8), and separators of lines and paragraphs.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # needed for words in some scripts, and for emoji; they do not move the cursor


def printable(text: str) -> str:
    """Text in one line that does not control the terminal.

    A label or the name of a file may contain characters that move the cursor, or colour, overwrite or reverse the text
    around them. Each is escaped as in a Python string, for example ESC as ``\\x1b``.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _UNPRINTABLE and character not in _JOINERS
        else character
        for character in text
    )
