"""Values of other implementations, and the scripts that made them (which need torch; the tests do not)."""

from pathlib import Path

FOLDER = Path(__file__).parent
