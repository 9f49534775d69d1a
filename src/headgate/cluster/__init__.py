"""The link between the processes of a node: control publishes snapshots, workers run them and report."""
