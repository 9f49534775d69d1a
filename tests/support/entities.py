"""A sample of every type of entity: what it is given, where "@type" stands for a reference to the entity of that type;
then a change of it.
"""

from typing import Any

from tests.support.certificates import Authority

_AUTHORITY = Authority()
CA_CERTIFICATE = _AUTHORITY.pem
_PAIR = _AUTHORITY.issue("example.com")
CERTIFICATE, KEY = _PAIR.certificate, _PAIR.key

SAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "certificates": ({"cert": CERTIFICATE, "key": KEY}, {"tags": ["new"]}),
    "ca_certificates": ({"cert": CA_CERTIFICATE}, {"tags": ["new"]}),
    "services": ({"name": "s", "host": "example.com"}, {"retries": 2}),
    "routes": ({"name": "r", "paths": ["/r"], "service": "@services"}, {"paths": ["/x", "/y"]}),
    "consumers": ({"username": "u", "custom_id": "c"}, {"custom_id": None}),
    "consumer_groups": ({"name": "g"}, {"name": "h"}),
    "consumer_group_consumers": ({"consumer": "@consumers", "consumer_group": "@consumer_groups"}, {}),
    "plugins": (
        {"name": "key-auth", "instance_name": "i", "route": "@routes", "config": {"key_names": ["k"]}},
        {"config": {"hide_credentials": True}},
    ),
    "upstreams": ({"name": "up"}, {"healthchecks": {"active": {"timeout": 3}}}),
    "targets": ({"target": "127.0.0.1:80", "upstream": "@upstreams"}, {"weight": 0}),
    "snis": ({"name": "a.example.com", "certificate": "@certificates"}, {"name": "b.example.com"}),
    "keyauth_credentials": ({"key": "k", "consumer": "@consumers"}, {"key": "l"}),
    "basicauth_credentials": (
        {"username": "b", "password": "p", "consumer": "@consumers"},
        {"username": "bb"},
    ),
    "hmacauth_credentials": ({"username": "h", "consumer": "@consumers"}, {"secret": "s"}),
    "jwt_secrets": ({"key": "j", "consumer": "@consumers"}, {"secret": "s"}),
    "acls": ({"group": "a", "consumer": "@consumers"}, {"group": "b"}),
    "oauth2_credentials": ({"name": "o", "consumer": "@consumers"}, {"redirect_uris": ["https://example.com/"]}),
    "key_sets": ({"name": "ks"}, {"tags": ["t"]}),
    "keys": (
        {"name": "key", "kid": "1", "set": "@key_sets", "jwk": '{"kid":"1","kty":"oct","k":"AAAA"}'},
        {"tags": ["t"]},
    ),
    "vaults": ({"prefix": "my-vault", "name": "env", "config": {"prefix": "X_"}}, {"description": "d"}),
}
