"""How fast and how small the gateway is, as ratios to nginx measured in the same run."""
