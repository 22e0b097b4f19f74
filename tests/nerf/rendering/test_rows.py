"""Functions of rows over devices: the same for any number of rows and devices, and one program for all."""

import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.nerf.rendering.rows import Rows


@pytest.mark.parametrize("devices", [1, 8])
def test_every_row_is_computed_once_by_one_program(devices):
    traces = []

    def function(shared, rows):
        traces.append(1)
        number, vector = rows
        return {"sum": vector.sum(-1) + shared, "number": number}

    rows = Rows(function, meshes.make_mesh(devices), chunk=5)
    for count in (1, 5, 39, 40, 41, 100):
        vector = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)
        found = rows(np.float32(2), (np.arange(count, dtype=np.int32), vector), "rows")
        np.testing.assert_array_equal(found["number"], np.arange(count))
        np.testing.assert_allclose(found["sum"], vector.sum(-1) + 2, rtol=1e-5, atol=1e-6)
    assert len(traces) == 1
