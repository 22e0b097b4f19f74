from pathlib import Path

import pytest

from jaxhw.nerf.results.names import file_names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cam0/0001.png", "cam1/0001.png", "cam1/0002.png"], ["cam0_0001", "cam1_0001", "0002"]),
        (["/x/y/r.png", "z/r.png"], ["x_y_r", "z_r"]),
        (["a/r.png", "a/r.jpg", "a/R.jpg"], ["a_r", "a_r_2", "a_R_3"]),
        (["../../r.png", "..\\r.jpg"], ["r", "r_2"]),
        (["a/b.png", "c/b.png", "a_b.png"], ["a_b", "c_b", "a_b_2"]),
        (["v1.2/r", "v1.3/r"], ["v1.2_r", "v1.3_r"]),
        (["a:b?.png", ".hidden.png", "..."], ["a_b_", "hidden", "picture"]),
        (["bytes\udcff.png", "müll (1).png"], ["bytes_", "müll (1)"]),
    ],
)
def test_names_are_inside_the_folder_and_unique(names, expected):
    assert file_names(names) == [f"{name}.png" for name in expected]


def test_long_names_fit_a_file_system(tmp_path):
    for name in file_names([f"{'ä' * 150}/{i}/{'x' * 300}.png" for i in range(3)]):
        assert Path(name).name == name and len(name.encode()) < 255
        (tmp_path / name).touch()
    assert len(list(tmp_path.iterdir())) == 3
