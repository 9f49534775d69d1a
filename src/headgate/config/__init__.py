"""Process settings: one dataclass per section, one registry (`load.SETTINGS`) from which everything else derives."""
