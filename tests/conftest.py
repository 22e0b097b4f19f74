"""The tests run on JAX's CPU backend with eight forced devices; most use a mesh of one of them."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
# Each program is compiled once, also the small ones: for all workers, what they start, and the next time.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data for development; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("JAXHW_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder} (set JAXHW_DATA)")
    return folder
