"""Lengths of time as people read them."""


def duration(seconds: float, digits: int = 2) -> str:
    """In so many digits, or hours and minutes: "0.94 s", "8.2 min", "7 h 30 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.{digits}g} s"
    return f"{seconds / 60:.{digits}g} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
