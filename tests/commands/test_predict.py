"""Pictures by name and by folder."""

import pytest
from PIL import Image

from jaxhw.commands.predict import pictures
from jaxhw.errors import UserError


def test_a_folder_stands_for_its_pictures(tmp_path):
    for name in ("b/2.png", "b/deeper/1.jpg", "a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("none")
    found = pictures([tmp_path / "a.png", tmp_path / "b", tmp_path / "not_there.png"])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a.png",
        "b/2.png",
        "b/deeper/1.jpg",
        "not_there.png",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no pictures"):
        pictures([tmp_path / "empty"])
