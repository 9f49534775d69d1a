"""`kong.client`: who is calling: address, consumer, credential, consumer groups.

PDK reference 4. `authenticate` decides which consumer-scoped plugin instances later plugins of the access pass get.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from headgate.errors import GatewayError
from headgate.pdk._call import Call
from headgate.pdk._check import need_string
from headgate.pdk._phase import ACCESS, AUTHENTICATED, phases
from headgate.pdk.client_tls import ClientTls, client_tls
from headgate.pdk.router import RoutedPlan, matched_route, matched_service
from headgate.phases import STREAM_LOG, Phase

_VPC: Final = (
    Phase.CERTIFICATE
    | Phase.REWRITE
    | Phase.ACCESS
    | Phase.WS_HANDSHAKE
    | Phase.HEADER_FILTER
    | Phase.RESPONSE
    | Phase.BODY_FILTER
    | Phase.LOG
    | Phase.WS_CLOSE
    | Phase.PREREAD
)


class ProtocolError(GatewayError):
    """`get_protocol` cannot tell (Kong returns nil and this text)."""


class TokenError(GatewayError):
    """No token is stored, or what is stored is no compact JWT (Kong returns nil and a text)."""


class Client:
    """`kong.client`."""

    __slots__ = ()

    tls: ClientTls = client_tls

    @phases(rejected=Phase.INIT_WORKER)
    def get_ip(self, call: Call) -> str:
        """Return the address of the directly connected peer."""
        return call.exchange.client_ip

    @phases(rejected=Phase.INIT_WORKER)
    def get_forwarded_ip(self, call: Call) -> str:
        """Return the client's address after real-IP processing (`trusted_ips`, `real_ip_header`,
        `real_ip_recursive`).
        """
        return call.exchange.forwarded_client_ip

    @phases(rejected=Phase.INIT_WORKER)
    def get_port(self, call: Call) -> int:
        """Return the port of the directly connected peer."""
        return call.exchange.client_port

    @phases(rejected=Phase.INIT_WORKER)
    def get_forwarded_port(self, call: Call) -> int:
        """Return the client's port after real-IP processing."""
        return call.exchange.forwarded_client_port

    @phases(_VPC)
    def get_aws_vpce_id(self, call: Call) -> str | None:
        """Return the id of the AWS VPC endpoint that the client came through; None when the balancer named none.

        From the PROXY protocol (version 2) head of a trusted peer, so the listener needs `proxy_protocol`.
        """
        return call.exchange.aws_vpce_id

    @phases(AUTHENTICATED)
    def get_credential(self, call: Call) -> dict[str, Any] | None:
        """Return the credential the client was authenticated with; None when it was not. Shared: do not change it."""
        return call.credential

    @phases(AUTHENTICATED)
    def get_consumer(self, call: Call) -> dict[str, Any] | None:
        """Return the consumer the client was authenticated as; None when it was not. Shared: do not change it."""
        return call.consumer

    @phases(AUTHENTICATED)
    def load_consumer(self, call: Call, consumer_id: str, search_by_username: bool = False) -> dict[str, Any] | None:
        """Return a consumer by id or, when wanted, by user name; None when there is none.

        Raises: TypeError `consumer_id must be a string`; ValueError `cannot load a consumer with an id that is not a
            uuid`.
        """
        need_string(consumer_id, "consumer_id")
        is_uuid = _is_uuid(consumer_id)
        if not is_uuid and not search_by_username:
            raise ValueError("cannot load a consumer with an id that is not a uuid")
        plan: RoutedPlan = call.exchange.plan
        consumer = plan.snapshot.get("consumers", consumer_id) if is_uuid else None
        if consumer is None and search_by_username:
            consumer = plan.snapshot.by("consumers", "username", consumer_id)
        return consumer

    @phases(ACCESS)
    def authenticate(
        self, call: Call, consumer: dict[str, Any] | None = None, credential: dict[str, Any] | None = None
    ) -> None:
        """Say who the client is; replaces both earlier values, None clears. Loads the consumer's groups.

        Sets no headers (`kong.service.request.set_authentication_headers` does).

        Raises: TypeError `consumer must be a table or nil`, `credential must be a table or nil`; ValueError
            `either credential or consumer must be provided`.
        """
        if consumer is not None and not isinstance(consumer, Mapping):
            raise TypeError("consumer must be a table or nil")
        if credential is not None and not isinstance(credential, Mapping):
            raise TypeError("credential must be a table or nil")
        if consumer is None and credential is None:
            raise ValueError("either credential or consumer must be provided")
        call.consumer = consumer
        call.credential = credential
        identified = consumer if consumer is not None else credential
        call.exchange.set_balancing_identity(_id_text(identified))
        call.consumer_groups = None if consumer is None else _groups(call, consumer)

    @phases(AUTHENTICATED)
    def get_consumer_groups(self, call: Call) -> list[dict[str, Any]] | None:
        """Return the consumer groups of the client, by name; None without any."""
        return call.consumer_groups or None

    @phases(AUTHENTICATED)
    def set_authenticated_consumer_groups(
        self, call: Call, groups: Sequence[Mapping[str, Any]] | None = None, opts: Mapping[str, Any] | None = None
    ) -> None:
        """Set the consumer groups of the client; None clears them.

        Args: `groups`: mappings with at least `id` and `name`; `opts["mode"]`: `write` (default) or `append`.
        Raises: TypeError `consumer groups must be a table or nil`.
        """
        if groups is None:
            call.consumer_groups = None
            return
        if not isinstance(groups, list | tuple):
            raise TypeError("consumer groups must be a table or nil")
        added = [dict(group) for group in groups]
        if (opts or {}).get("mode") == "append":
            known = {group["id"] for group in added}
            added += [group for group in call.consumer_groups or () if group["id"] not in known]
        call.consumer_groups = sorted(added, key=_group_name)

    @phases(ACCESS)
    def authenticate_consumer_group_by_consumer_id(self, call: Call, consumer_id: str | None = None) -> None:
        """Set the groups of a consumer, by name; nothing when groups are set already or the id is None.

        Raises: TypeError `consumer_id must be a string`.
        """
        if consumer_id is not None and not isinstance(consumer_id, str):
            raise TypeError("consumer_id must be a string")
        if consumer_id is not None and not call.consumer_groups:
            call.consumer_groups = _groups(call, {"id": consumer_id})

    @phases(AUTHENTICATED)
    def set_authenticated_consumer_group(self, call: Call, group: Mapping[str, Any] | None = None) -> None:
        """Set the one consumer group of the client; None clears. Kept for old plugins: there may be several.

        Raises: TypeError `consumer group must be a table or nil`.
        """
        if group is not None and not isinstance(group, Mapping):
            raise TypeError("consumer group must be a table or nil")
        call.consumer_groups = None if group is None else [dict(group)]

    @phases(AUTHENTICATED)
    def get_consumer_group(self, call: Call) -> dict[str, Any] | None:
        """Return the first consumer group of the client, by name; None without any. Kept for old plugins."""
        return call.consumer_groups[0] if call.consumer_groups else None

    @phases(AUTHENTICATED)
    def set_token(self, call: Call, token: str | None = None) -> None:
        """Store the bearer token of this request for later plugins; None or an empty text clears it.

        Raises: TypeError `token must be a string or nil`.
        """
        if token is not None and not isinstance(token, str):
            raise TypeError("token must be a string or nil")
        call.token = token or None

    @phases(AUTHENTICATED)
    def get_token(self, call: Call) -> str | None:
        """Return the token that a plugin has stored; None without one."""
        return call.token

    @phases(AUTHENTICATED)
    def get_jwt_token_header(self, call: Call) -> dict[str, Any]:
        """Return the decoded header of the stored JWT. The signature is not looked at.

        Raises: TokenError without a token or for what is no compact JWT.
        """
        return _jwt_part(call.token, 0)

    @phases(AUTHENTICATED)
    def get_jwt_token_payload(self, call: Call) -> dict[str, Any]:
        """Return the decoded claims of the stored JWT. The signature is not looked at.

        Raises: TokenError without a token or for what is no compact JWT.
        """
        return _jwt_part(call.token, 1)

    @phases(AUTHENTICATED)
    def set_identity_realm_source(self, call: Call, source: Any = None) -> None:
        """Say where the client's identity comes from, for later plugins; None clears.

        Source: Kong names the function and documents nothing of it; here it stores what it is given.
        """
        call.identity_realm = source

    @phases(AUTHENTICATED)
    def get_identity_realm_source(self, call: Call) -> Any:
        """Return what `set_identity_realm_source` was given for this request; None without it."""
        return call.identity_realm

    @phases(AUTHENTICATED, is_for_streams=True)
    def get_protocol(self, call: Call, allow_terminated: bool = False) -> str:
        """Return the protocol of the matched route that this request or stream uses.

        Args: `allow_terminated`: a trusted peer's `X-Forwarded-Proto` counts as TLS.
        Raises: ProtocolError `No active route found`, `Only one X-Forwarded-Proto header allowed` (Kong returns nil
            and the text).
        """
        exchange = call.exchange
        route = matched_route(exchange)
        if route is None:
            raise ProtocolError("No active route found")
        protocols = route["protocols"]
        if len(protocols) == 1:
            return str(protocols[0])
        if call.phase == STREAM_LOG:
            service = matched_service(exchange)
            return "tls" if service is not None and service["protocol"] == "tls" else "tcp"
        plain, secure = ("ws", "wss") if "wss" in protocols else ("http", "https")
        if exchange.scheme == "https":
            return secure
        if allow_terminated and exchange.is_peer_trusted:
            values = exchange.get_request_header_values("x-forwarded-proto")
            if len(values) > 1 or any("," in value for value in values):
                raise ProtocolError("Only one X-Forwarded-Proto header allowed")
            if values and values[0].lower() == "https":
                return secure
        return plain


def _jwt_part(token: str | None, position: int) -> dict[str, Any]:
    if token is None:
        raise TokenError("no token is stored")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenError("the stored token is no JWT: expected three parts")
    part = parts[position]
    try:
        decoded = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except ValueError as error:
        raise TokenError(f"the stored token cannot be decoded: {error}") from None
    if not isinstance(decoded, dict):
        raise TokenError("the stored token cannot be decoded: not an object")
    return decoded


def _groups(call: Call, consumer: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    consumer_id = consumer.get("id")
    if consumer_id is None:
        return None
    plan: RoutedPlan = call.exchange.plan
    snapshot = plan.snapshot
    groups = [
        group
        for membership in snapshot.children("consumer_group_consumers", "consumer", consumer_id)
        if (group := snapshot.get("consumer_groups", membership["consumer_group"]["id"])) is not None
    ]
    return sorted(groups, key=_group_name) or None


def _group_name(group: Mapping[str, Any]) -> str:
    return str(group.get("name") or "")


def _id_text(entity: Mapping[str, Any] | None) -> str | None:
    identifier = None if entity is None else entity.get("id")
    return None if identifier is None else str(identifier)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


client = Client()
