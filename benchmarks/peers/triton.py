"""The Triton binary that nvidia-pytriton ships, with its Python backend and dynamic batching, without pytriton."""

import shutil
import subprocess
from pathlib import Path

CONFIG = """
name: "c" backend: "python" max_batch_size: 32
input [{name:"image" data_type: TYPE_STRING dims:[1]}]
output [{name:"probabilities" data_type: TYPE_FP32 dims:[10]}]
dynamic_batching { max_queue_delay_microseconds: 2000 }
instance_group [{kind: KIND_CPU count:COUNT}]
"""
ARGUMENTS = (
    "{site}/pytriton/tritonserver/bin/tritonserver --http-port={port} --allow-grpc=false --allow-metrics=false "
    "--model-repository={folder} --backend-directory={site}/pytriton/tritonserver/backends"
)


def prepare(bin_: Path, site: Path, folder: Path, servers: Path, processes: int) -> dict[str, str]:
    """Write a model repository into the folder; return variables with the paths of Python, packages and libraries."""
    server, python = site / "pytriton/tritonserver", site.parent.name.removeprefix("python")
    shutil.copy(server / f"python_backend_stubs/{python}/triton_python_backend_stub", server / "backends/python/")
    model = folder / "c"
    (model / "1").mkdir(parents=True)
    shutil.copy(servers / "triton_model.py", model / "1/model.py")
    (model / "config.pbtxt").write_text(CONFIG.replace("COUNT", str(processes)))
    prefix = [str(bin_ / "python"), "-c", "import sys; print(sys.base_prefix)"]
    home = subprocess.run(prefix, capture_output=True, text=True, check=True).stdout.strip()
    cuda = {path.parent for path in site.rglob("libcudart-*.so*")}
    libraries = [server / "external_libs", *cuda, Path(home) / "lib"]
    return {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PYTHONHOME": home,
        "PEER_PATH": f"{servers}:{site}",
    }
