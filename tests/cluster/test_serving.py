"""The application under Ray Serve, on a real cluster of several nodes on this machine."""

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
import ray
import yaml
from prometheus_client.parser import text_string_to_metric_families
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from app.cluster.serving import NAME, Scale, build_application

ROOT = Path(__file__).parent.parent.parent
IMAGE = (ROOT / "docs" / "cat.png").read_bytes()
SECONDS = 90.0
CLIENTS = 8
TWO = Scale(min_replicas=2, max_replicas=2)


@dataclass
class Nodes:
    """A cluster whose head has no cores, so that replicas run on its other nodes only."""

    cluster: Cluster
    port: int
    added: list = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self) -> None:
        self.added.append(self.cluster.add_node(num_cpus=1))

    def kill(self) -> None:
        self.cluster.remove_node(self.added.pop(), allow_graceful=False)


@pytest.fixture
def connect(request) -> Iterator[Callable[..., Nodes]]:
    """Makes the cluster, with two nodes of a core each, whose processes have these variables."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})

    def connect(**variables: str) -> Nodes:
        environment = {"CIFAR10_ACCESS": "open", "PYTHONPATH": str(ROOT)} | variables
        ray.init(cluster.address, runtime_env={"env_vars": environment})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve.start(proxy_location="HeadOnly", http_options={"port": port})
        nodes = Nodes(cluster, port)
        nodes.add()
        nodes.add()
        return nodes

    try:
        yield connect
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


def run(scale: Scale) -> None:
    serve.run(build_application(scale), name="cifar10")


def ask(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, body, SECONDS) as answer:
        return answer.read()


def replicas() -> int:
    states = serve.status().applications["cifar10"].deployments[NAME].replica_states
    return states.get("RUNNING", 0)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s"
        time.sleep(0.1)


@dataclass
class Load:
    """Clients that ask one request after another until they are told to stop."""

    url: str
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self.threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _ask(self) -> None:
        while not self.stopping.is_set():
            try:
                assert orjson.loads(ask(f"{self.url}/predict", IMAGE))["label"] == "cat"
            except OSError as error:
                self.failures.append(str(error))
            else:
                self.answers += 1

    def wait_for_answers(self, count: int) -> None:
        """Wait for so many more."""
        goal = self.answers + count
        wait_until(lambda: self.answers >= goal)


def test_each_replica_answers_and_any_tells_what_all_have_counted(connect):
    nodes = connect()
    run(TWO)
    assert orjson.loads(ask(f"{nodes.url}/health"))["status"] == "ready"
    for _ in range(40):
        ask(f"{nodes.url}/predict", IMAGE)
    families = text_string_to_metric_families(ask(f"{nodes.url}/metrics").decode())
    asked = {"route": "/predict", "status": "200"}
    counts = {
        sample.labels["replica"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "cifar10_request_seconds_count" and asked.items() <= sample.labels.items()
    }
    assert len(counts) == 2 and sum(counts.values()) == 40 and min(counts.values()) > 0
    assert orjson.loads(ask(f"{nodes.url}/model/drift"))["images"] == 40
    logs = Path(nodes.cluster.head_node.get_session_dir_path(), "logs")
    texts = [path.read_text() for path in logs.glob("worker-*.err")]
    assert sum(text.count('"route": "/predict"') for text in texts) == 40
    assert not [text for text in texts if "Logging error" in text or "Traceback" in text]


def test_a_killed_node_costs_only_the_requests_in_flight_on_it(connect):
    nodes = connect()
    run(TWO)
    with Load(nodes.url) as load:
        load.wait_for_answers(100)
        nodes.kill()
        load.wait_for_answers(300)
        nodes.add()
        wait_until(lambda: replicas() == 2)
        load.wait_for_answers(100)
    assert len(load.failures) <= CLIENTS, load.failures


def test_replicas_that_are_replaced_lose_nothing(connect):
    nodes = connect()
    run(TWO)
    with Load(nodes.url) as load:
        load.wait_for_answers(100)
        run(TWO.model_copy(update={"max_ongoing_requests": 32}))
        load.wait_for_answers(100)
    assert load.failures == []


def test_more_requests_bring_another_replica(connect):
    nodes = connect()
    run(Scale(min_replicas=1, max_replicas=2, target_ongoing_requests=2))
    assert replicas() == 1
    with Load(nodes.url):
        wait_until(lambda: replicas() == 2)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [({"CIFAR10_STORE": "/nowhere"}, "the store holds no version"), ({"CIFAR10_ACCESS": ""}, "CIFAR10_ACCESS")],
    ids=["no model", "nobody said who may ask"],
)
def test_an_application_that_cannot_answer_is_not_running_and_says_why(connect, variables, reason):
    connect(**variables)
    with pytest.raises(RuntimeError):
        run(TWO)
    application = serve.status().applications["cifar10"]
    assert application.status == ApplicationStatus.DEPLOY_FAILED
    assert reason in application.deployments[NAME].message


def test_the_configuration_is_one_that_ray_reads():
    configuration = yaml.safe_load((ROOT / "deploy" / "ray" / "serve.yaml").read_text())
    schema = ServeDeploySchema.model_validate(configuration)
    (application,) = schema.applications
    Scale.model_validate(application.args)
    assert application.import_path == f"{build_application.__module__}:{build_application.__name__}"
