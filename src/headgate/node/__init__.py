"""What the processes of a node share: sockets, prefix, logs, the bootstrap of children."""
