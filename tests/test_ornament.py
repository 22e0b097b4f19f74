"""Text of users in pictures, and pictures that fail."""

import pytest
from matplotlib.figure import Figure

from jaxhw import ornament


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("tabby cat", "tabby cat"),
        ("café 100 %", "café 100 %"),
        ("a$b$c", r"a\$b\$c"),
        ("\u732b", r"\u732b"),
        ("caf\udce9", r"caf\udce9"),
        ("two\nlines", r"two\nlines"),
    ],
)
def test_labels_are_what_users_wrote(text, label):
    assert ornament.plain(text) == label
    shown = Figure().text(0, 0, ornament.plain(text))
    drawn, is_markup = shown._preprocess_math(shown.get_text())
    assert not is_markup and drawn == label.replace(r"\$", "$")


def test_a_picture_that_fails_is_one_line(tmp_path, capsys):
    for _ in range(2):
        with ornament.drawn(tmp_path / "a.png"):
            raise ValueError("no such font\nand more")
    told = capsys.readouterr().err.splitlines()
    assert told == [f"warning: the picture {tmp_path / 'a.png'} cannot be drawn: no such font"]
    with pytest.raises(KeyboardInterrupt), ornament.drawn(tmp_path / "a.png"):
        raise KeyboardInterrupt
