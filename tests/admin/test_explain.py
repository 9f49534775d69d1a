"""The explanation of a described request, with the router of the engine."""

from tests.admin.conftest import Api

DOCUMENT = """
_format_version: "3.0"
services:
- name: shop
  url: http://shop.test/base
  routes:
  - name: items
    paths: ["~/items/(?<id>[0-9]+)$"]
    headers: {x-version: ["2"]}
    protocols: [https]
    plugins:
    - name: request-termination
consumers:
- username: anna
plugins:
- name: request-termination
  instance_name: everywhere
- name: key-auth
"""


def test_request_is_explained_with_its_route_and_reasons(api: Api) -> None:
    api.load(DOCUMENT)
    told = api.get("/explain?path=/items/12&host=shop.test&scheme=https&header=X-Version:2&consumer=anna")
    assert told["route"]["name"] == "items"
    assert told["consumer"]["name"] == "anna"
    assert told["match"]["upstream_path"] == "/base"
    assert told["match"]["named_captures"] == {"id": "12"}
    assert [turn["plugin"] for turn in told["order"]["access"]] == ["key-auth", "request-termination"]
    candidates = {one["instance_name"]: one["reason"] for one in told["plugins"][1]["candidates"]}
    assert candidates == {
        None: "runs: level 10 (route) is the most specific level that applies",
        "everywhere": "is not run: level 12 (global) comes after level 10 (route)",
    }


def test_request_without_a_route_is_explained(api: Api) -> None:
    api.load(DOCUMENT)
    told = api.get("/explain?path=/items/12")
    assert told["route"] is None
    assert told["notes"][0].startswith("No route matched")


def test_all_bad_arguments_are_told_at_once(api: Api) -> None:
    answer = api.call("GET", "/explain?scheme=ftp&path=x&port=70000&header=x&consumer=nobody&hots=a")
    assert answer.status_code == 400
    assert answer.json()["fields"] == {
        "scheme": "expected one of: http, https, ws, wss, tcp, tls, udp",
        "path": "should start with: /",
        "port": "value should be between 1 and 65535",
        "header": "expected NAME:VALUE, got: x",
        "consumer": "no consumer has this username, custom id or id",
        "hots": "unknown argument",
    }


def test_stream_is_explained_too(api: Api) -> None:
    api.load("""
_format_version: "3.0"
services:
- name: db
  protocol: tcp
  host: db.test
  port: 5432
  routes:
  - {name: near, protocols: [tcp], sources: [{ip: 10.0.0.0/8}]}
""")
    told = api.get("/explain?scheme=tcp&port=9000&source=10.1.2.3")
    assert (told["route"]["name"], told["service"]["name"]) == ("near", "db")
    assert api.get("/explain?scheme=tcp&port=9000&source=11.1.2.3")["route"] is None
    answer = api.call("GET", "/explain?scheme=udp&path=/")
    assert answer.json()["fields"] == {
        "path": "a stream has none",
        "port": "a stream needs the port that it connects to, here or with the destination",
    }
