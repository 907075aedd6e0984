def test_a_routes_template_is_not_its_address(client):
    """Taken literally, it would reach the endpoint without the parameter."""
    response = client.get("/model/report/%7Bname%7D")
    assert response.status_code == 404 and response.json()["code"] == "not_found"


def test_requests_with_and_without_a_query_get_the_same(client):
    assert client.get("/model").json() == client.get("/model?x=1").json()
    assert client.get("/model/card").text == client.get("/model/card?x=1").text
