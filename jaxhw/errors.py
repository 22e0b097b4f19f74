"""The one exception that users see, and how entry points end."""

import errno
import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. Entry points print its single line after ``error:`` and exit with code 2."""


def exit_code(function: Callable[[], None]) -> int:
    """Runs an entry point: 0 when it returns, 2 and one line on stderr when its input or the disk is at fault."""
    try:
        function()
        return 0
    except UserError as error:
        line = str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        line = f"cannot write {error.filename or 'the output'}: {error.strerror}"
    print(f"error: {line}", file=sys.stderr)
    return 2
