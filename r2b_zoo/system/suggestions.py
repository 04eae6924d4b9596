"""Suggests known names that are similar to an unknown one."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], most: int = 3) -> str:
    """A question that names at most ``most`` similar names, as in " Did you mean cifar10?"; "" if none is similar."""
    by_lower_case = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower_case, n=most)
    return f" Did you mean {' or '.join(by_lower_case[name] for name in near)}?" if near else ""
