"""A plugin whose import fails."""

raise RuntimeError("the disk is on fire")
