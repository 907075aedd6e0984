from benchmarks.harness.machine import CpuTimes, cores, describe, on_cores


def test_others_use_what_this_process_and_its_children_do_not():
    before, after = CpuTimes(50, machine=100, own=1), CpuTimes(60, machine=118, own=4)
    assert before.others_until(after) == 1.5  # 18 CPU seconds less our own 3, in 10 seconds
    assert before.others_until(CpuTimes(60, machine=102, own=4)) == 0


def test_cpu_times_grow():
    before = CpuTimes.now()
    while (after := CpuTimes.now()).own == before.own:
        pass
    assert after.moment > before.moment
    assert after.machine >= before.machine


def test_a_machine_is_described():
    here = describe(idle_seconds=0.01)
    assert here.cores == len(cores())
    assert here.others_before >= 0
    assert here.python in str(here)


def test_the_cores_are_restricted_within_the_block_only():
    before = cores()
    with on_cores(before[:1]):
        assert cores() == before[:1]
    assert cores() == before
