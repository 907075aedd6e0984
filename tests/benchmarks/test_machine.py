from benchmarks import machine
from benchmarks.machine import Watch, cores, describe, on_cores, warn_if_busy
from tests.benchmarks.made import MACHINE


def after(values):
    """Stands for a clock that shows one value after another."""
    return lambda: next(values)


def test_what_others_use_is_what_this_process_and_its_children_do_not(monkeypatch):
    monkeypatch.setattr(machine, "_busy_seconds", after(iter([100.0, 118.0])))
    monkeypatch.setattr(machine, "_own_seconds", after(iter([1.0, 4.0])))
    monkeypatch.setattr(machine.time, "perf_counter", after(iter([50.0, 60.0])))
    stamped = Watch().stamped(MACHINE)
    assert stamped.others_cores == 1.5  # 18 seconds of processor less our own 3, in 10
    assert str(stamped).endswith("others used 0.0 cores before the run and 1.5 meanwhile")
    assert str(MACHINE).endswith("before the run")


def test_a_machine_is_described(monkeypatch):
    monkeypatch.setattr(machine, "BUSY_SECONDS", 0.01)
    here = describe()
    assert here.cores == len(cores())
    assert here.busy_cores >= 0
    assert here.python in str(here)


def test_a_busy_machine_is_named(capsys):
    warn_if_busy(MACHINE)
    assert capsys.readouterr().out == ""
    warn_if_busy(machine.dataclasses.replace(MACHINE, busy_cores=1.9))
    assert "other processes use 1.9 of 2 cores" in capsys.readouterr().out


def test_cores_are_taken_and_given_back():
    before = cores()
    with on_cores(before[:1]):
        assert cores() == before[:1]
    assert cores() == before
