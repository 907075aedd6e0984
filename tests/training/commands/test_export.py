import openvino as ov
import pytest

from training.__main__ import main


@pytest.mark.slow
def test_a_run_is_exported(notebook_run, tmp_path, capsys):
    assert main(["export", str(notebook_run), "--format", "openvino", "--out", str(tmp_path / "net.xml")]) == 0
    assert "it agrees with the served network within" in capsys.readouterr().out
    model = ov.Core().read_model(tmp_path / "net.xml")
    assert model.input(0).element_type == ov.Type.f32
    assert model.input(0).partial_shape.to_string() == "[?,32,32,3]"
    assert main(["export", str(notebook_run), "--format", "openvino", "--out", str(tmp_path / "net.onnx")]) == 1
    assert "NAME.xml" in capsys.readouterr().err
