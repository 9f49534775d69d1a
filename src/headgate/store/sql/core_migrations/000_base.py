"""The tables of the first release."""

from headgate.store.sql.operations import MigrationOperations


def up(op: MigrationOperations) -> None:
    """Create them, what is referred to first."""
    op.create_entity_table("certificates")
    op.create_entity_table("ca_certificates", unique=("cert_digest",))
    op.create_entity_table(
        "services", references={"client_certificate": ("certificates", "restrict")}, unique=("name",)
    )
    op.create_entity_table("routes", references={"service": ("services", "restrict")}, unique=("name",))
    op.create_entity_table("consumers", unique=("username", "custom_id"))
    op.create_entity_table("consumer_groups", unique=("name",))
    op.create_entity_table(
        "consumer_group_consumers",
        references={"consumer": ("consumers", "cascade"), "consumer_group": ("consumer_groups", "cascade")},
        unique_together=(("consumer", "consumer_group"),),
    )
    op.create_entity_table(
        "plugins",
        references={
            "route": ("routes", "cascade"),
            "service": ("services", "cascade"),
            "consumer": ("consumers", "cascade"),
            "consumer_group": ("consumer_groups", "cascade"),
        },
        unique=("instance_name",),
        unique_together=(("name", "route", "service", "consumer", "consumer_group"),),
    )
    op.create_entity_table(
        "upstreams", references={"client_certificate": ("certificates", "restrict")}, unique=("name",)
    )
    op.create_entity_table(
        "targets",
        references={"upstream": ("upstreams", "cascade")},
        lookups=("target",),
        unique_together=(("upstream", "target"),),
    )
    op.create_entity_table("snis", references={"certificate": ("certificates", "cascade")}, unique=("name",))
    op.create_entity_table(
        "keyauth_credentials", references={"consumer": ("consumers", "cascade")}, unique=("key",), has_ttl=True
    )
    op.create_entity_table(
        "basicauth_credentials", references={"consumer": ("consumers", "cascade")}, unique=("username",)
    )
    op.create_entity_table(
        "hmacauth_credentials", references={"consumer": ("consumers", "cascade")}, unique=("username",)
    )
    op.create_entity_table("jwt_secrets", references={"consumer": ("consumers", "cascade")}, unique=("key",))
    op.create_entity_table(
        "acls", references={"consumer": ("consumers", "cascade")}, unique_together=(("consumer", "group"),)
    )
    op.create_entity_table(
        "oauth2_credentials", references={"consumer": ("consumers", "cascade")}, unique=("client_id",)
    )
    op.create_entity_table("key_sets", unique=("name",))
    op.create_entity_table(
        "keys", references={"set": ("key_sets", "cascade")}, unique=("name",), unique_together=(("kid", "set"),)
    )
    op.create_entity_table("vaults", unique=("prefix",))
