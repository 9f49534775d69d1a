"""Health of upstreams on this node: what workers see, what probes say, and who is told."""
