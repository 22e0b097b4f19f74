"""What the compiler gave is kept, and its refusals are understood."""

import jax
import jax.numpy as jnp

from jaxhw.plan.compiling import Cache, Compiled, memory_needed

HBM = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (60.00G) exceeds "
    "available HBM (15.75G)."
)
OLDER = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 20.50M of 15M"


def test_how_much_memory_a_refusal_asks_for():
    assert memory_needed(HBM) == 60 * 2**30 and memory_needed(OLDER) == 20.5 * 2**20
    assert memory_needed("RESOURCE_EXHAUSTED: something else") == float("inf")
    assert memory_needed("INTERNAL: a fault") is None


def test_programs_lie_in_the_cache_by_what_they_are_and_for_which_slice(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1")
    cache = Cache(tmp_path / "plans")
    lowered = lambda n: jax.jit(lambda x: x + n).lower(jnp.zeros(3))
    path = cache.path(lowered(1), "v5e:2x4")
    assert path == cache.path(lowered(1), "v5e:2x4")
    assert len({path, cache.path(lowered(2), "v5e:2x4"), cache.path(lowered(1), "v5e:4x4")}) == 3
    assert cache.read(path) is None
    cache.write(path, Compiled(5.0, "HloModule"))
    assert cache.read(path) == Compiled(5.0, "HloModule")
    path.write_bytes(path.read_bytes()[:10])
    assert cache.read(path) is None
