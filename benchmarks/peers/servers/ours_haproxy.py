"""Our service as two instances of a process behind HAProxy, as in deploy/proxies: `ours_haproxy.py PORT FOLDER`."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.harness.server import ROOT, free_port
from benchmarks.rolling import proxy_configuration

if __name__ == "__main__":
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    ports = port, free_port(), free_port()
    configuration = folder / "haproxy.cfg"
    configuration.write_text(proxy_configuration("haproxy", ports))
    commands = [["haproxy", "-f", str(configuration)]]
    commands += [[sys.executable, "-m", "app", "serve", "--port", str(instance)] for instance in ports[1:]]
    environment = os.environ | {"CIFAR10_WORKERS": "1"}
    for process in [subprocess.Popen(command, cwd=ROOT, env=environment) for command in commands]:
        process.wait()
