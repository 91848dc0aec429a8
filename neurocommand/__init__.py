"""neurocommand: from a manifest of container releases to plain commands."""

__version__ = "0.1.0"
