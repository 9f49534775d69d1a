"""Entities: one file per type, each the single source for documents, Admin API, published schema and lookups.

`registry.ENTITY_TYPES` lists them. Nothing here reads or writes a store.
"""
