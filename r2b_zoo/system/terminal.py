"""Text from files, made safe to print.

r2b_zoo and r2b_runtime each hold this file, word for word, because neither needs the other; a test compares the two.
"""

import unicodedata

# Control characters, invisible formatting (marks that reverse the direction of writing among it), halves of characters
# (which stand for bytes of file names that are not UTF-8), and ends of lines and paragraphs.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # belong to the spelling of words in some scripts, and to emoji; they move nothing


def printable(text: str) -> str:
    """Text of one line that a terminal shows as it is and does not obey.

    A label or the name of a file may hold characters that move the cursor, colour, overwrite or reverse what stands
    around them. Each is written as Python writes it in a string, ESC as ``\\x1b``.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _UNPRINTABLE and character not in _JOINERS
        else character
        for character in text
    )
