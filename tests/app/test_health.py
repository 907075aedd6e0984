"""Liveness, readiness and their reasons."""

from tests.app.conftest import png


def test_unservable_store_keeps_the_service_up_and_says_why(client_with, tmp_path):
    broken = client_with(store=tmp_path)
    for path in ("/health", "/health/ready", "/model", "/model/card", "/model/report/classes.png"):
        response = broken.get(path)
        assert response.status_code == 503 and "holds no version of 'cifar10'" in response.json()["detail"]
    for path in ("/predict", "/explain"):
        assert broken.post(path, content=png()).json()["code"] == "not_ready"
    assert broken.get("/health/live").status_code == 200


def test_health_tells_what_is_served(client):
    loaded = client.app.state.pipeline.loaded
    health = client.get("/health").json()
    assert health == {
        "status": "ready",
        "model": {"name": "cifar10", "version": str(loaded.manifest.version)},
        "engine": "openvino",
        "precision": loaded.classifier.precision,
    }
    assert client.get("/health/ready").json() == health


def test_readiness_falls_while_draining_and_predictions_go_on(client):
    pipeline = client.app.state.pipeline
    pipeline.draining = True
    try:
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        assert client.post("/predict", content=png()).status_code == 200
    finally:
        pipeline.draining = False
