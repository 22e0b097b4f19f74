"""Joining the other processes of a run that several share, and a line for whatever is wrong with that.

JAX's own runtime knows SLURM, Open MPI, Kubernetes and Cloud TPUs, and does all that joining needs; but where it cannot
reach the coordinator it ends the process with a C++ stack trace. So what
can be found before is found here: whether somebody listens at its address, whether its port is free.
"""

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import jax

from jaxhw.errors import DiskFailure, UserError, exit_code
from jaxhw.job import PATIENCE, Job
from jaxhw.peers import LOST, Peers
from jaxhw.relay import Relay


class Alone(UserError):
    """The others have not come. They may have been killed while they started, so that all are to start again."""

    code = LOST


@contextlib.contextmanager
def joined(job: Job | None, patience: float = PATIENCE) -> Iterator[None]:
    """Within, this process is one of a job's; call before anything touches a device. None: it stays alone.

    An error that is raised within ends the process: what else Python does at its end would wait for the others.

    Args:
      patience: how many seconds to wait for the others.

    Raises:
      Alone: they have not come.
      UserError: this process cannot listen at its port.
    """
    if not job:
        yield
        return
    peers = _join(job, patience)
    try:
        yield
        peers.finish()
    except BaseException as error:
        # Where another process is lost, what is raised here is a consequence of that, of one kind or another.
        if not isinstance(error, (UserError, DiskFailure, KeyboardInterrupt)):
            peers.wait_for_verdict()
        code = _told(error)
        peers.fail()
        os._exit(code)


def _join(job: Job, patience: float) -> Peers:
    where = f"[{job.host}]:{job.port}" if ":" in job.host else f"{job.host}:{job.port}"
    if job.index:  # process 0 is the coordinator itself
        _wait_for(job, where, patience)
        relay = Relay(job.host, job.port)
    else:
        relay = None
        _check_free(job)
        _say(f"{job}: waiting up to {patience:.0f} s for the others at {where}")
    line = f"error: {job}: not all of the {job.count} came to {where} in {patience:.0f} s"
    with _ending(line, patience):  # before the runtime does, which would leave a trace
        jax.distributed.initialize(
            relay.address if relay else where,
            job.count,
            job.index,
            job.local_devices,
            cluster_detection_method="deactivate",
            initialization_timeout=int(patience) + 60,
        )
    _say(f"{job}: all are there")
    return Peers(_client(), job.index, job.count, relay)


@contextlib.contextmanager
def _ending(line: str, patience: float) -> Iterator[None]:
    """Ends the process with a line unless what runs within returns in time."""

    def end() -> None:
        _say(line)
        os._exit(LOST)

    timer = threading.Timer(patience, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _client():
    """That of JAX's coordination service, whose key-value store it shares with us."""
    from jax._src.distributed import global_state

    return global_state.client


def _check_free(job: Job) -> None:
    """Raises a UserError where the coordinator cannot listen at its port."""
    try:
        with socket.socket() as probe:  # only bound: who knocks at one that listens would take it for the coordinator
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", job.port))
    except OSError as error:
        raise UserError(
            f"{job} cannot listen at port {job.port} ({os.strerror(error.errno)}): choose another"
        ) from error


def _wait_for(job: Job, where: str, patience: float) -> None:
    """Returns when somebody listens at the coordinator's address."""
    _say(f"{job}: waiting up to {patience:.0f} s for the coordinator at {where}")
    end, reason = time.monotonic() + patience, ""
    while time.monotonic() < end:
        try:
            socket.create_connection((job.host, job.port), timeout=5).close()
            return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(0.2)
    raise Alone(
        f"{job} found no coordinator at {where} in {patience:.0f} s ({reason}): is process 0 running, and is that its "
        "address?"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _told(error: BaseException) -> int:
    """The exit code of an error, which is told as at the end of any process."""

    def again() -> None:
        raise error

    try:
        return exit_code(again)
    except Exception:
        traceback.print_exc()
        return 1
