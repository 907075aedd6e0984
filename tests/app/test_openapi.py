"""/openapi.json documents the errors as they are sent."""

from app.errors import CODES
from app.openapi import KEY_CODES


def test_openapi_is_serialised_once(client, monkeypatch):
    first = client.get("/openapi.json")
    monkeypatch.setattr(client.app, "openapi", None)
    assert client.get("/openapi.json").content == first.content
    assert first.headers["content-type"] == "application/json" and first.json()["openapi"].startswith("3.")


def test_openapi_documents_every_error_of_the_code_table(client):
    document = client.get("/openapi.json").json()
    text = str(document)
    undocumented = {"not_found", "method_not_allowed"}  # of addresses that are not in the document
    undocumented |= {"unknown_host", *KEY_CODES}  # of services with hosts and keys: tests/app/access/test_gate.py
    assert [code for code in CODES if code not in undocumented and f"`{code}`" not in text] == []
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert list(body) == ["multipart/form-data", "image/*"]
    explained = document["paths"]["/explain"]["post"]["responses"]["200"]["content"]
    assert sorted(explained) == ["application/json", "image/png"]


def test_openapi_documents_problems_as_they_are_sent(client):
    document = client.get("/openapi.json").json()
    assert document["components"]["schemas"]["ProblemAnswer"]["type"] == "object"
    answers = [
        (int(status), answer["content"])
        for path in document["paths"].values()
        for method in path.values()
        for status, answer in method["responses"].items()
        if status != "200"
    ]
    assert {status for status, _ in answers} == {400, 404, 408, 413, 415, 422, 500, 503, 504}
    for status, content in answers:
        assert list(content) == ["application/problem+json"]
        assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/ProblemAnswer"}
        examples = content["application/problem+json"]["examples"]
        assert [(value["value"]["code"], value["value"]["status"]) for value in examples.values()] == [
            (code, status) for code in examples
        ]
    sent = client.get("/model/report/nothing.png").json()
    example = document["paths"]["/model/report/{name}"]["get"]["responses"]["404"]["content"]
    example = example["application/problem+json"]["examples"]["not_found"]["value"]
    assert {**example, "detail": "", "request_id": ""} == {**sent, "detail": "", "request_id": ""}
