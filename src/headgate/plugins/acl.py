"""acl: let a consumer through by the groups it belongs to.

Owns the decision and the header that tells the upstream the groups. Groups are the `acls` entities of the consumer, or
the authenticated groups that another plugin (such as ldap-auth) left in `kong.ctx.shared.authenticated_groups`.
"""

from functools import cached_property
from typing import NoReturn

from headgate import Plugin, PluginConfig, kong
from headgate.schema import checks, field

CONSUMER_GROUPS_HEADER = "X-Consumer-Groups"
AUTHENTICATED_GROUPS_HEADER = "X-Authenticated-Groups"


class Config(PluginConfig):
    no_consumer = True
    entity_checks = (
        checks.only_one_of("config.allow", "config.deny"),
        checks.at_least_one_of("config.allow", "config.deny"),
    )

    allow: list[str] | None = field(None)
    deny: list[str] | None = field(None)
    hide_groups_header: bool = False
    always_use_authenticated_groups: bool = False

    @cached_property
    def allowed(self) -> frozenset[str]:
        return frozenset(self.allow or ())

    @cached_property
    def denied(self) -> frozenset[str]:
        return frozenset(self.deny or ())

    def permits(self, groups: list[str]) -> bool:
        """Tell whether a member of `groups` may pass: one group is allowed, or none is denied."""
        return not self.allowed.isdisjoint(groups) if self.allowed else self.denied.isdisjoint(groups)


class Handler(Plugin[Config]):
    VERSION = "3.9.1"
    PRIORITY = 950

    def access(self, conf: Config) -> None:
        """Pass the request on with its groups in a header, or answer 401 or 403."""
        consumer = kong.client.get_consumer()
        credential = kong.client.get_credential()
        groups: list[str] | None = None
        header = AUTHENTICATED_GROUPS_HEADER
        if credential is None or conf.always_use_authenticated_groups:
            groups = _authenticated_groups()
        if groups is None:
            if consumer is None:
                _refuse(has_credential=credential is not None)
            header = CONSUMER_GROUPS_HEADER
            groups = [acl["group"] for acl in kong.db.acls.each_for_consumer(consumer["id"])]
            if not groups and conf.allowed:
                _refuse(has_credential=credential is not None)
        if not conf.permits(groups):
            kong.response.error(403, "You cannot consume this service")
        # Whatever is not set here is removed, so that a client cannot claim groups of its own.
        for name in (CONSUMER_GROUPS_HEADER, AUTHENTICATED_GROUPS_HEADER):
            if name == header and groups and not conf.hide_groups_header:
                kong.service.request.set_header(name, ", ".join(groups))
            else:
                kong.service.request.clear_header(name)

    ws_handshake = access


def _authenticated_groups() -> list[str] | None:
    groups = kong.ctx.shared.authenticated_groups
    if groups is None:
        return None
    return [str(group) for group in groups]


def _refuse(*, has_credential: bool) -> NoReturn:
    if has_credential:
        kong.response.error(403, "You cannot consume this service")
    kong.response.error(401, "Unauthorized")
