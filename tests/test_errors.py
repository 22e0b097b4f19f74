"""How entry points end."""

import pytest

from jaxhw import errors


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [(errors.UserError("no such thing"), 2, "error: no such thing"), (KeyboardInterrupt(), 130, "stopped")],
)
def test_what_users_cause_is_one_line(capsys, error, code, line):
    def function():
        raise error

    assert errors.exit_code(function) == code
    assert capsys.readouterr().err.splitlines() == [line]


def test_what_the_disk_says():
    assert errors.disk_failure(PermissionError(13, "Permission denied", "/a")) == "cannot open /a: Permission denied"
    full = RuntimeError("in the background")
    full.__cause__ = OSError(28, "No space left on device", "/b")
    assert errors.disk_failure(full) == "cannot write /b: No space left on device"
    assert errors.disk_failure(ValueError("something else")) == ""


def test_what_a_message_quotes_breaks_no_line(capsys):
    def fail():
        errors.warn("a\nb")
        raise errors.UserError("config.dataset='x\r\ny' is unknown")

    assert errors.exit_code(fail) == 2
    assert capsys.readouterr().err == "warning: a\\nb\nerror: config.dataset='x\\r\\ny' is unknown\n"
