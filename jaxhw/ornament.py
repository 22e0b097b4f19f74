"""What all pictures share: their style, text from users in them, and that a picture which fails ends nothing."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.font_manager import findfont, get_font

from jaxhw.errors import warn

INK = "#444444"
STYLE = {
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@contextlib.contextmanager
def drawn(path: Path) -> Iterator[None]:
    """Draws in this package's style; what goes wrong is told in a line that names the picture."""
    try:
        with matplotlib.rc_context(STYLE):
            yield
    except Exception as error:  # whatever it is, the numbers matter more
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warn(f"the picture {path} cannot be drawn: {reason}")


def plain(text: str) -> str:
    """A user's text as a label: no markup, and the code points of what the font has no sign for (``\\u732b``).

    Matplotlib takes what stands between two dollars for mathematics, unless they are escaped.
    """
    signs = _signs()
    shown = (c if ord(c) in signs else ascii(c)[1:-1] for c in text)
    return "".join(shown).replace("$", r"\$")


@functools.cache
def _signs() -> frozenset[int]:
    """The code points that the font draws; others would all be the same box."""
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
