"""The Triton binary that nvidia-pytriton ships, with its Python backend and dynamic batching, without pytriton."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.server import free_port

CONFIG = """
name: "c" backend: "python" max_batch_size: 32
input [{name:"image" data_type: TYPE_STRING dims:[1]}]
output [{name:"probabilities" data_type: TYPE_FP32 dims:[10]}]
dynamic_batching { max_queue_delay_microseconds: 2000 }
instance_group [{kind: KIND_CPU count:1}]
"""


def command(bin_: Path, port: int, folder: Path, servers: Path) -> tuple[list[str], dict[str, str]]:
    """What to run and the environment variables for it, with a model repository in `folder`."""
    site = next((bin_.parent / "lib").glob("python*/site-packages"))
    server = site / "pytriton/tritonserver"
    version = site.parent.name.removeprefix("python")
    shutil.copy(server / f"python_backend_stubs/{version}/triton_python_backend_stub", server / "backends/python/")
    _write_model(folder / "c", servers)
    ports = [f"--http-port={port}", f"--grpc-port={free_port()}", f"--metrics-port={free_port()}"]
    places = [f"--model-repository={folder}", f"--backend-directory={server / 'backends'}"]
    return [str(server / "bin/tritonserver"), *places, *ports], _variables(bin_, site, server, servers)


def _write_model(model: Path, servers: Path) -> None:
    (model / "1").mkdir(parents=True)
    shutil.copy(servers / "triton_model.py", model / "1/model.py")
    (model / "config.pbtxt").write_text(CONFIG)


def _variables(bin_: Path, site: Path, server: Path, servers: Path) -> dict[str, str]:
    """The backend is told where Python, its packages and its libraries are."""
    asked = [str(bin_ / "python"), "-c", "import sys; print(sys.base_prefix)"]
    home = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    cuda = {path.parent for path in site.rglob("libcudart-*.so*")}
    libraries = [server / "external_libs", *cuda, Path(home) / "lib"]
    return {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PYTHONHOME": home,
        "PEER_PATH": f"{servers}:{site}",
    }
