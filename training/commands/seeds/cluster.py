"""Seeds as tasks of a Ray cluster. The only module of the jobs that imports Ray, and only for `--ray`.

A task starts the job `train` on its node and waits for it. Ray starts the task again if its node or worker dies, and
`train` then continues from its checkpoint in the run directory, which all nodes must see.
"""

import dataclasses
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from training.commands.seeds.process import SeedJob
from training.errors import TrainingError

RETRIES = 20  # of a task whose node or worker has died: each goes on from a checkpoint, and spot nodes die often
LOCK_SECONDS = 120.0  # an NFS server frees the locks of a dead node after 90 s
CHECK_SECONDS = 60.0
CONNECT_SECONDS = 10.0
ROOT = Path(__file__).parents[3]  # of the code, the same on every node
REMEDY = "--out, --data, --teachers and this code must be at the same place on every node: mount them there"
PASSED_ON = "KERAS_", "CIFAR10_", "TF_", "XLA_", "JAX_"


def train_on_cluster(
    address: str, jobs: Sequence[SeedJob], cpus: int | None, out: Path, paths: Sequence[Path]
) -> Iterator[tuple[int, str]]:
    """Train seeds on a cluster. Yields each, as it ends, with the reason if it failed, else an empty text.

    Args:
        address: as of `ray.init`.
        cpus: cores of each seed, None for as many as the smallest node has for one.
        out: folder of the run directories, created here.
        paths: further files and folders that a seed reads.

    Raises:
        TrainingError: Ray is missing, the cluster cannot be reached, or a node does not see the files.
    """
    ray = _import_ray()
    with _connected(ray, address), _marker(out) as marker:
        resources = choose_resources([node["Resources"] for node in ray.nodes() if node["Alive"]], cpus)
        seen = [str(path.absolute()) for path in (marker, *paths, ROOT, jobs[0].directory)]
        _check_nodes(ray, seen)
        print(f"{len(jobs)} seeds, each with {_describe(resources)} of the cluster", flush=True)
        task = ray.remote(_train_on_node)
        pending = {}
        for job in jobs:
            job = dataclasses.replace(job, environment=_environment(resources), lock_seconds=LOCK_SECONDS)
            options = resources | {"max_retries": RETRIES, "scheduling_strategy": "SPREAD"}
            ref = task.options(name=f"seed {job.seed}", **options).remote(str(ROOT), seen, dataclasses.asdict(job))
            pending[ref] = job.seed
        yield from _as_they_end(ray, pending)


def choose_resources(nodes: Sequence[Mapping[str, float]], cpus: int | None) -> dict[str, int]:
    """Return a seed's `num_cpus` and, on a cluster with GPUs and with JAX as backend, `num_gpus`.

    Args:
        nodes: resources of each node by name.
        cpus: cores to use, None for as many as the smallest node has for a seed.

    Raises:
        TrainingError: no node has as many cores.
    """
    gpus = os.environ.get("KERAS_BACKEND") == "jax" and any(node.get("GPU") for node in nodes)
    usable = [node for node in nodes if node.get("GPU" if gpus else "CPU", 0) >= 1]
    if usable and cpus and cpus > max(node.get("CPU", 0) for node in usable):
        most = int(max(node.get("CPU", 0) for node in usable))
        raise TrainingError(f"--cpus-per-seed {cpus}: the largest node has {most} cores; pass {most} or fewer")
    shares = [int(node.get("CPU", 0) // (node["GPU"] if gpus else 1)) for node in usable]
    return {"num_cpus": cpus or max(1, min(shares, default=1))} | ({"num_gpus": 1} if gpus else {})


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # every seed's lines, even if they are alike
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise TrainingError(
            f"--ray needs Ray, which {sys.executable} does not have; install the group `ray` into an environment of "
            "its own: `pip install --require-hashes -r requirements/ray.txt`"
        ) from None
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # for nodes that lack this code
    module: ModuleType = ray
    return module


@contextmanager
def _connected(ray: ModuleType, address: str) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine for the address `local`.

    Raises:
        TrainingError: it cannot be reached, or has another version of Ray or Python.
    """
    stop = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        host, colon, port = address.removeprefix("ray://").rpartition(":")
        if colon:  # Ray itself needs minutes to report an address without a cluster
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(address=address, logging_level="warning", **options)
    except Exception as error:  # noqa: BLE001 Ray raises Exception itself if a node does not start
        raise TrainingError(f"--ray {address}: {error}") from None
    signal.signal(signal.SIGTERM, stop)  # Ray's own handler ends the process without a message
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _marker(out: Path) -> Iterator[Path]:
    """Write a file into `out`, by which a node shows that it sees this folder and not one of the same name."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f".shared-{secrets.token_hex(8)}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _check_nodes(ray: ModuleType, seen: Sequence[str]) -> None:
    """Raise TrainingError, with all their names, if there are nodes that do not see the files."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    check = ray.remote(_name_missing)
    on_nodes = [
        check.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        for node in ray.nodes()
        if node["Alive"]
    ]
    answers, late = ray.wait([each.remote(seen) for each in on_nodes], num_returns=len(on_nodes), timeout=CHECK_SECONDS)
    if late:
        raise TrainingError(f"{len(late)} of {len(on_nodes)} nodes have not answered for {CHECK_SECONDS:.0f} s")
    if problems := list(filter(None, ray.get(answers))):
        raise TrainingError("; ".join([*problems, REMEDY]))


# The next two run on nodes, which may lack this code: they import it only after they have looked for it.


def _name_missing(seen: Sequence[str]) -> str:
    """Return what is wrong with a node that does not see all files, else an empty text."""
    import ray

    missing = [path for path in seen if not Path(path).exists()]
    node = ray.util.get_node_ip_address()
    return f"the node {node} does not see {', '.join(missing)}" if missing else ""


def _train_on_node(root: str, seen: Sequence[str], job: dict[str, Any]) -> str:
    """Train one seed on the node that this runs on. Returns the reason if it failed, else an empty text."""
    if problem := _name_missing(seen):
        return f"{problem}; {REMEDY}"
    sys.path.insert(0, root)
    from training.commands.seeds.process import SeedJob, train_seed

    return train_seed(SeedJob(**job))


def _as_they_end(ray: ModuleType, pending: dict[Any, int]) -> Iterator[tuple[int, str]]:
    try:
        while pending:
            (ref,), _ = ray.wait(list(pending))
            yield pending.pop(ref), _result(ray, ref)
    finally:  # interrupted
        for ref in pending:
            ray.cancel(ref, force=True)


def _result(ray: ModuleType, ref: Any) -> str:
    try:
        reason: str = ray.get(ref)
    except ray.exceptions.RayError as error:
        return f"{type(error).__name__} after up to {RETRIES} retries: {str(error).strip().splitlines()[0]}"
    return reason


def _environment(resources: Mapping[str, int]) -> dict[str, str]:
    """Return our variables and, for a seed without GPU, the number of threads that fits its cores."""
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    threads = {} if "num_gpus" in resources else {"TF_NUM_INTRAOP_THREADS": str(resources["num_cpus"])}
    return threads | passed_on


def _describe(resources: Mapping[str, int]) -> str:
    cores = resources["num_cpus"]
    return f"{cores} {'core' if cores == 1 else 'cores'}{' and a GPU' if 'num_gpus' in resources else ''}"
