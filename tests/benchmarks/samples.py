"""Results of a made-up run."""

from benchmarks.harness.machine import Machine
from benchmarks.harness.report import Overload, Results
from benchmarks.load.closed_loop import Load
from benchmarks.load.open_loop import Offered

MACHINE = Machine("2026-11-24", "Test (avx2)", 2, 24.0, "Linux 6", "3.11.7", 0.0)
LOAD = Load("PNG 32×32", 1, 8, 4_100, 2.0, 3.5, 12.25, 100, 0, 0.91, 0.05)
OFFERED = Offered("JPEG 640×480", 1_000.0, 4_000, 450.0, 200.0, 310.0, 2_200, 4.5, 20.0, 0, 40, 1, 9.0, 0.1, 0.2, 0.12)
RESULTS = Results(
    command="python -m benchmarks.service --seconds 2",
    machine=MACHINE,
    others_cores=0.1,
    model="cifar10 3",
    precision="int8",
    ready_seconds=0.8,
    all_ready_seconds=1.7,
    megabytes=[180.0, 175.0],
    limits={"PNG 32×32": 4_000.0, "JPEG 640×480": 1_000.0},
    closed=[LOAD, Load("PNG 32×32", 1, 32, 6_000, 2.0, 3.5, 12.25, 0, 0, 0.91, 0.05)],
    opened=[OFFERED],
    overload=[Overload(2, 500.0, OFFERED, 400.0, 410.0)],
)


def cells(text: str) -> list[dict[str, str]]:
    """The rows of a Markdown table, as text under the head's names."""
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]
