"""How numbers of things are said."""


def counted(count: int, what: str) -> str:
    """Return a number of things: 1 frame, 2 frames."""
    return f"{count} {what}{'' if abs(count) == 1 else 's'}"
