"""Migrations of the gateway's own tables, in their order. Written once: a change of a type is a new migration."""

MIGRATIONS = ["000_base", "001_cluster_events", "002_changes"]
