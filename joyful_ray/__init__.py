"""JOYFUL on Ray: emotions in conversations, trained, searched and served on a cluster or a laptop."""

__version__ = "0.1.0"
