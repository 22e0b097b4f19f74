"""Two hosts in two network namespaces: the link between them is cut in the midst of a run, and mended."""

import subprocess
import time

import pytest

from tests import processes
from tests.launch import launched
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, launched.needs("ip", "unshare", root=True)]
HOSTS = {"jaxhw-a": "10.213.7.1", "jaxhw-b": "10.213.7.2"}


@pytest.fixture
def link(tmp_path):
    """Makes the hosts, with names of their own and a cable between them; gives a function that plugs it in or out."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in HOSTS.items()))
    first, second = HOSTS
    try:
        for name in HOSTS:
            launched.run("ip", "netns", "add", name)
        launched.run("ip", "link", "add", "cable", "netns", first, "type", "veth", "peer", "cable", "netns", second)
        for name, address in HOSTS.items():
            launched.run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                launched.run("ip", "-n", name, "link", "set", device, "up")
        yield lambda state: launched.run("ip", "-n", first, "link", "set", "cable", state)
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "delete", name])


def on_both(tmp_path, workdir):
    """A process on each host."""
    started = []
    for index, name in enumerate(HOSTS):
        joining = {"JAX_COORDINATOR_ADDRESS": f"{HOSTS['jaxhw-a']}:1234", "JAX_NUM_PROCESSES": "2"}
        host = f'mount --bind {tmp_path}/hosts /etc/hosts && hostname {name} && exec "$@"'
        command = ["ip", "netns", "exec", name, "unshare", "--uts", "--mount", "sh", "-c", host, "sh"]
        environment = launched.ENVIRONMENT | joining | {"JAX_PROCESS_ID": str(index)}
        options = {"cwd": processes.ROOT, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*command, *launched.toy(workdir)], env=environment, **options))
    return started


def test_a_cut_link_is_one_line_on_both_sides_and_the_restart_continues(link, tmp_path):
    workdir = tmp_path / "run"
    pair = on_both(tmp_path, workdir)
    wait_for(lambda: launched.saved(workdir) >= 20)
    began = time.monotonic()
    link("down")
    for process, other in zip(pair, ("process 1 on jaxhw-b", "process 0 on jaxhw-a"), strict=True):
        _, told = process.communicate(timeout=90)
        errors = [line for line in told.splitlines() if line.startswith("error:")]
        assert process.returncode == 75 and len(errors) == 1 and f"{other} has not been heard of" in errors[0], told
        assert "***" not in told  # the runtime's trace
    assert time.monotonic() - began < 60
    link("up")
    for process in on_both(tmp_path, workdir):
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    launched.assert_same(workdir, launched.undisturbed(tmp_path / "undisturbed"))
