"""A version that takes other images than 32×32 RGB, through every endpoint of the service."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.__main__ import main
from app.errors import Problem
from app.monitoring.stages import Stages
from app.settings import Settings
from model_store.errors import UnusableImage
from model_store.images.decode import decode
from model_store.version import Loaded, load
from tests.app.conftest import running
from tests.other_inputs import INPUTS, LABELS, NAME, Input, publish


@pytest.fixture(scope="module", params=INPUTS, ids=str)
def given(request) -> Input:
    return request.param


@pytest.fixture(scope="module")
def folder(given, tmp_path_factory):
    return publish(tmp_path_factory.mktemp("input"), given)


@pytest.fixture(scope="module")
def loaded(folder) -> Loaded:
    return load(folder)


@pytest.fixture(scope="module")
def client(folder):
    with running(Settings(store=folder.parents[1], model_name=NAME)) as client:
        yield client


def encode(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


def photo() -> bytes:
    """A JPEG that is larger than every input, and not of its proportions."""
    blots = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return encode(np.asarray(blots.resize((640, 480), Image.Resampling.BICUBIC)), "JPEG")


def probabilities(loaded: Loaded, data: bytes) -> list[float]:
    pixels = decode(data, loaded.manifest.preprocessing)
    return loaded.classifier.predict(pixels[None]).probabilities[0].tolist()


def close(values) -> object:
    return pytest.approx(values, abs=5e-3)


def test_one_image_is_predicted_as_by_the_classifier(client, loaded, given):
    for data in (encode(given.random_image()), photo()):
        answer = client.post("/predict", content=data).json()
        assert list(answer["probabilities"]) == list(LABELS)
        assert list(answer["probabilities"].values()) == close(probabilities(loaded, data))


def test_a_batch_is_predicted_in_order(client, loaded, given):
    sent = [encode(given.random_image(seed)) for seed in range(40)]
    answer = client.post("/predict/batch", files=[("files", (str(i), data)) for i, data in enumerate(sent)]).json()
    for one, data in zip(answer["results"], sent, strict=True):
        assert list(one["prediction"]["probabilities"].values()) == close(probabilities(loaded, data))


def test_an_explanation_shows_what_the_network_saw_under_a_map(client, given):
    data = encode(given.random_image())
    answer = client.post("/explain?format=json", content=data).json()
    assert np.array(answer["saliency"]).shape == (32, 32)
    seen, overlay = (
        Image.open(io.BytesIO(base64.b64decode(answer[part].partition(",")[2]))) for part in ("seen", "overlay")
    )
    assert np.array_equal(np.asarray(seen).reshape(given.shape), given.random_image())
    height, width, _ = given.shape
    assert max(overlay.size) == 256 and overlay.width * height == overlay.height * width
    picture = Image.open(io.BytesIO(client.post("/explain", content=photo()).content))
    assert picture.size == overlay.size


def test_tensors_of_tensorflow_serving_are_predicted_as_the_file_of_these_pixels(client, loaded, given):
    image = given.random_image()
    expected = close(probabilities(loaded, encode(image)))
    answer = client.post(f"/v1/models/{NAME}:predict", json={"instances": [image.tolist()]}).json()
    assert answer["predictions"][0] == expected
    fractions = {"instances": [(image / 255).tolist(), {"b64": base64.b64encode(encode(image)).decode()}]}
    assert client.post(f"/v1/models/{NAME}:predict", json=fractions).json()["predictions"] == [expected, expected]
    assert client.post("/invocations", json=fractions).json()["predictions"] == [expected, expected]
    wrong = client.post(f"/v1/models/{NAME}:predict", json={"instances": [image[1:].tolist()]})
    assert wrong.status_code == 400 and f"an image has the shape {list(given.shape)}" in wrong.json()["error"]


def test_tensors_of_the_open_inference_protocol_are_predicted_as_the_file_of_these_pixels(client, loaded, given):
    image = given.random_image()
    expected = close(probabilities(loaded, encode(image)))
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, *given.shape], "data": image.reshape(-1).tolist()}
    wanted = [{"name": "probabilities"}]
    answer = client.post(f"/v2/models/{NAME}/infer", json={"inputs": [tensor], "outputs": wanted}).json()
    assert answer["outputs"][0]["data"] == expected
    for datatype, pixels in (("UINT8", image), ("FP32", (image / 255).astype("<f4"))):
        size = {"binary_data_size": pixels.nbytes}
        tensor = {"name": "image", "datatype": datatype, "shape": [1, *given.shape], "parameters": size}
        head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        answer = client.post(f"/v2/models/{NAME}/infer", content=head + pixels.tobytes(), headers=headers).json()
        assert answer["outputs"][0]["data"] == expected


def test_the_input_is_described_to_clients(client, given):
    height, width, channels = given.shape
    model = client.get("/model").json()
    order = "BGR" if "BGR" in given.options else "RGB"
    assert model["input"] == {"height": height, "width": width, "channels": channels, "channel_order": order}
    assert model["manifest"]["schema_version"] == 2
    assert client.get(f"/v2/models/{NAME}").json()["inputs"][0]["shape"] == [-1, *given.shape]
    signature = client.get(f"/v1/models/{NAME}/metadata").json()["metadata"]["signature_def"]["signature_def"]
    sizes = signature["serving_default"]["inputs"]["image"]["tensor_shape"]["dim"]
    assert [int(size["size"]) for size in sizes] == [-1, *given.shape]
    card = client.get("/model/card").text
    assert f"It sees {width}×{height} {'grey ' if channels == 1 else ''}pixels" in card
    assert client.get("/model/drift").json()["status"] == "no_reference"
    assert f'model="{NAME}"' in client.get("/metrics").text


def test_pixels_read_for_another_version_are_refused(client, given):
    serving = client.app.state.pipeline.require_serving()
    with pytest.raises(UnusableImage, match="the version in service has just changed"):
        serving._decode_in_place(np.zeros((given.shape[0] + 1, *given.shape[1:]), np.uint8))


def test_a_large_batch_of_heavy_images_waits_in_the_memory_for_images(client, given):
    pipeline = client.app.state.pipeline
    free, pipeline.memory.free = pipeline.memory.free, 2 * given.random_image().nbytes
    try:
        files = [("files", (str(seed), encode(given.random_image(seed)))) for seed in range(3)]
        serving = pipeline.require_serving()
        sources = [data for _, (_, data) in files]
        with pytest.raises(Problem, match="other images take"):
            client.portal.call(serving.predict_all, sources, Stages())
    finally:
        pipeline.memory.free = free


def test_classify_answers_without_a_server(folder, loaded, given, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(encode(given.random_image()))
    monkeypatch.setenv("CIFAR10_STORE", str(folder.parents[1]))
    assert main(["classify", "--format", "jsonl", str(tmp_path / "a.png")]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[0])
    expected = probabilities(loaded, (tmp_path / "a.png").read_bytes())
    assert list(answer["probabilities"].values()) == close(expected)


def test_openapi_describes_the_input(client: TestClient):
    schema = client.get("/openapi.json").json()["components"]["schemas"]["ModelInput"]
    assert set(schema["properties"]) == {"height", "width", "channels", "channel_order"}
