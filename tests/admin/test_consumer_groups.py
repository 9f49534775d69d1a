"""Consumer groups, their members, and what plugins do for them."""

from tests.admin.conftest import Api
from tests.admin.test_writes import created


def test_members_of_consumer_groups(writable: Api) -> None:
    group = writable.call("PUT", "/consumer_groups/g", json={}).json()
    one, two = (writable.call("PUT", f"/consumers/{name}", json={}).json() for name in ("one", "two"))
    answer = created(writable, "/consumer_groups/g/consumers", {"consumer": "one"})
    assert answer == {"consumer_group": group, "consumers": [one]}
    assert created(writable, "/consumers/two/consumer_groups", {"group": group["id"]})["consumer"] == two
    assert writable.call("POST", "/consumer_groups/g/consumers", json={"consumer": one["id"]}).status_code == 409
    refused = writable.call("POST", "/consumer_groups/g/consumers", json={"consumer": "none"})
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["consumer"])
    assert len(writable.get("/consumer_groups/g")["consumers"]) == 2
    assert writable.call("DELETE", "/consumers/two/consumer_groups/g").status_code == 204
    assert writable.call("DELETE", "/consumers/two/consumer_groups/g").status_code == 404
    assert writable.call("DELETE", "/consumer_groups/g/consumers").status_code == 204
    assert writable.get("/consumer_groups/g")["consumers"] == []


def test_the_older_path_of_overrides_is_the_groups_own_plugin_instance(writable: Api) -> None:
    group = writable.call("PUT", "/consumer_groups/g", json={}).json()
    path = "/consumer_groups/g/overrides/plugins/request-termination"
    assert writable.call("GET", path).status_code == 404
    made = writable.call("PUT", path, json={"config": {"status_code": 418}})
    assert (made.status_code, made.json()["consumer_group"]) == (201, "g")
    assert made.json()["plugin"] == "request-termination"
    assert made.json()["config"]["status_code"] == 418
    [instance] = writable.get("/consumer_groups/g/plugins")["data"]
    assert (instance["consumer_group"], instance["config"]) == ({"id": group["id"]}, made.json()["config"])
    again = writable.call("PUT", path, data={"config.status_code": "419"})
    assert (again.status_code, again.json()["config"]["status_code"]) == (201, 419)
    assert writable.get("/consumer_groups/g/plugins")["data"][0]["id"] == instance["id"]
    assert writable.get(path) == again.json()
    refused = writable.call("PUT", path, json={"config": {"status_code": "x"}})
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["config"])
    assert writable.call("PUT", "/consumer_groups/none/overrides/plugins/request-termination").status_code == 404
    assert writable.call("DELETE", path).status_code == 204
    assert writable.call("DELETE", path).status_code == 404
    assert writable.get("/plugins")["data"] == []
