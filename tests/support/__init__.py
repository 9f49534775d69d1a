"""What tests of the whole program share: the gateway as a process, scripted upstreams, raw clients, certificates."""
