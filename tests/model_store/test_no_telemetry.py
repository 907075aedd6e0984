"""Importing and using the store connects to nobody, though a dependency would report its imports."""

import json
import subprocess
import sys

import pytest

RECORDER = """
import json, sys

events = []

def record(event, arguments):
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname",
                 "subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"}:
        if event == "subprocess.Popen" and arguments[1][0] == "uname":
            return  # NumPy asks the standard library's platform module about the processor
        events.append(event)
        raise OSError(f"{event} is not allowed here")

sys.addaudithook(record)
"""
REPORT = """
import os, threading
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(10)  # a reporter works in the background
telemetry = [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
print(json.dumps({"events": events, "telemetry": telemetry}), flush=True)
os._exit(0)  # whatever still hangs in the background is what the test is about
"""
USE = """
import model_store
import openvino, openvino.opset13 as ops, numpy
from model_store.classifier import Classifier
from model_store.version import load
x = ops.parameter([1, 3], numpy.float32)
openvino.Core().compile_model(openvino.Model([ops.relu(x)], [x]), "CPU")(numpy.zeros((1, 3), numpy.float32))
"""


def recorded(code):
    result = subprocess.run(
        [sys.executable, "-c", RECORDER + code + REPORT], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(result.stdout.splitlines()[-1])


def test_nothing_dials_out():
    assert recorded(USE) == {"events": [], "telemetry": []}


@pytest.mark.parametrize(
    ("attempt", "event"),
    [
        ("socket.create_connection(('192.0.2.1', 80))", "socket.getaddrinfo"),
        ("socket.socket().connect(('127.0.0.1', 9))", "socket.connect"),
        ("threading.Thread(target=socket.gethostbyname, args=('localhost',)).start()", "socket.gethostbyname"),
    ],
    ids=["connection by name", "connection by address", "look-up in a thread"],
)
def test_the_recorder_sees_an_attempt(attempt, event):
    code = f"import socket, threading\ntry:\n    {attempt}\nexcept OSError:\n    pass\n"
    assert recorded(code)["events"] == [event]
