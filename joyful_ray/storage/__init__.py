"""Local paths and s3:// URIs behind one interface."""

from joyful_ray.storage.location import ENDPOINT_VARIABLES, Location, open_location
from joyful_ray.storage.probe import ProbeTimings, probe

__all__ = ["ENDPOINT_VARIABLES", "Location", "ProbeTimings", "open_location", "probe"]
