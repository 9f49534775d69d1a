"""Admin API and Status API, in the control process: read endpoints derived from the entities, and POST /config."""
