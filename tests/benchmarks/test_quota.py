import pytest

from benchmarks import quota as module
from benchmarks.errors import BenchmarkError
from benchmarks.quota import quota


@pytest.fixture
def membership(tmp_path, monkeypatch):
    """Makes this machine's control groups."""

    def make(text: str) -> None:
        (tmp_path / "cgroup").write_text(text)

    monkeypatch.setattr(module, "MOUNTED", tmp_path)
    monkeypatch.setattr(module, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(module, "_remove", lambda group: None)  # real groups are emptied by the kernel
    return make


def test_the_first_version_gets_period_and_quota(tmp_path, membership):
    membership("2:cpu,cpuacct:/own\n1:memory:/x\n0::/\n")
    (tmp_path / "cpu/own").mkdir(parents=True)
    with quota(0.5) as prefix:
        (group,) = (tmp_path / "cpu/own").iterdir()
        assert (group / "cpu.cfs_period_us").read_text() == "100000"
        assert (group / "cpu.cfs_quota_us").read_text() == "50000"
        assert prefix[-1] == str(group)


def test_the_second_version_gets_both_in_one_file(tmp_path, membership):
    membership("0::/own\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/cgroup.subtree_control").write_text("cpu memory\n")
    with quota(0.5):
        (limit,) = (tmp_path / "own").glob("bench-*/cpu.max")
        assert limit.read_text() == "50000 100000"


def test_says_why_where_the_controller_is_not_handed_on(tmp_path, membership):
    membership("0::/\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    with pytest.raises(BenchmarkError, match="does not hand on the controller `cpu`"), quota(0.5):
        pass


def test_says_why_where_no_group_can_be_made(membership):
    membership("2:cpu:/elsewhere\n")
    with pytest.raises(BenchmarkError, match=r"no control group can be made in .*elsewhere: No such file"), quota(0.5):
        pass
