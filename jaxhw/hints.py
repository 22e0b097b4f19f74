"""What somebody meant who wrote a flag that does not exist: the end of an error's line."""

import difflib
import re
from collections.abc import Collection
from pathlib import Path

_HERE = Path(__file__).parent
FOLDERS = (Path("configs"), _HERE / "shipped" / "configs", _HERE.parent / "configs")  # a wheel's, an editable install's


def key(name: str, known: Collection[str]) -> str:
    """The key of a config that ends like "lr", or is spelt nearly like it, as "config.KEY"; empty if there is none."""
    last = {other: other.split(".")[-1] for other in sorted(known, key=len)}
    ending = difflib.get_close_matches(name.split(".")[-1], set(last.values()), n=1, cutoff=0.75)
    close = [other for other, end in last.items() if end in ending]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"config.{close[0]}" if close else ""


def config_file(name: str) -> str:
    """ "; did you mean configs/vit.py?" for "vti", "vit.py" or "configs/vti.py"."""
    stems = {path.stem for folder in FOLDERS for path in folder.glob("*.py")}
    close = difflib.get_close_matches(Path(name).stem, stems, n=1, cutoff=0.6)
    return f"; did you mean configs/{close[0]}.py?" if close else ""


def argument(text: str, known: Collection[str]) -> str:
    """How an argument that was not understood ("configs/vit.py", "--lr=0.1") should have been written."""
    if re.match(r"[^-].*\.py(:\w*)?$", text):
        return f"a config is named by --config={text}"
    flag = re.match(r"--?([\w.]+)(=.*)?$", text)
    meant = key(flag[1], known) if flag else ""
    return f"did you mean --{meant}{flag[2] or ''}?" if meant else "options are written --config.key=value"
