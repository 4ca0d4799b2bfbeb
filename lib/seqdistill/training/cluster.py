"""Where many runs are trained: the cores of this machine, a Ray cluster or a Dask cluster, all through joblib."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from importlib import import_module
from types import ModuleType

from joblib import parallel_config
from joblib.externals.loky.process_executor import BrokenProcessPool
from joblib.parallel import ParallelBackendBase

from seqdistill.io import UserError

KINDS = {"loky": "loky", "ray": "ray", "ray://": "ray", "dask": "dask", "tcp://": "dask", "tls://": "dask"}


def kind_of(cluster: str) -> str:
    """Which backend of joblib a cluster's name or address asks for.

    Raises:
        UserError: none.
    """
    kind = KINDS.get("".join(cluster.partition("://")[:2]))
    if kind is None:
        raise UserError(f'cluster "{cluster}": choose loky, ray, dask, ray://host:10001 or tcp://host:8786.')
    return kind


def imported(module: str, extra: str) -> ModuleType:
    """Import what an extra of this package installs.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        command = f'pip install -c lib/requirements.lock -e "lib[{extra}]"'
        raise UserError(f"cluster: {module} is not installed; run {command} in the project's folder.") from None


@contextmanager
def connected(cluster: str) -> Iterator[type[Exception]]:
    """Let joblib use a cluster, a process of one thread per core; yield what it raises when a worker is lost.

    Args:
        cluster: "loky": processes of this machine. "ray": the cluster that Ray finds (RAY_ADDRESS), or one of this
            machine; where it has GPUs, every process takes one of them. "dask": one of this machine. Or an address:
            "ray://host:10001", "tcp://host:8786".

    Raises:
        UserError: there is no such cluster, its package is not installed, or a Dask worker has several threads.
    """
    kind, address = kind_of(cluster), cluster if "://" in cluster else None
    if kind == "loky":
        with parallel_config("loky"):
            yield BrokenProcessPool
    elif kind == "ray":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = imported("ray", "ray")
        imported("ray.util.joblib", "ray").register_ray()
        own = nullcontext() if ray.is_initialized() else ray.init(address, log_to_driver=False, logging_level="ERROR")
        with own, parallel_config("ray", ray_remote_args=share_of(ray.cluster_resources())):
            yield ray.exceptions.RayError
    else:
        dask = imported("distributed", "dask")
        where = {"address": address} if address else {"threads_per_worker": 1, "dashboard_address": None}
        with dask.Client(**where) as client, parallel_config(loud(client)):
            if max(client.nthreads().values(), default=1) > 1:  # runs in threads would share one random generator
                raise UserError("cluster: a run needs a process of its own; start Dask's workers with --nthreads 1.")
            yield dask.KilledWorker


def share_of(resources: dict[str, float]) -> dict[str, int]:
    """What a run asks of a Ray cluster that has these resources: a core, and a GPU where there are some."""
    return {"num_cpus": 1} | ({"num_gpus": 1} if resources.get("GPU") else {})


def loud(client: object) -> ParallelBackendBase:
    """joblib's backend for a Dask client, told of a task that Dask gives up: joblib 1.6 would wait for it forever."""
    backend = import_module("joblib._dask").DaskDistributedBackend(client=client)
    submit = backend.submit

    def told(task: Callable, callback: Callable) -> Future:
        future = submit(task, callback)
        future.add_done_callback(lambda done: done.exception() and callback(done.exception()))
        return future

    backend.submit = told
    return backend
