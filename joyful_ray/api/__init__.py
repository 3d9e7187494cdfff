"""The Python API."""

from importlib import import_module

# `joyful_ray` has subpackages called train, predict, report and study as well. Python binds such a name when it first
# imports the subpackage; doing so here leaves the names to the functions. `from joyful_ray.train.launch import …` still
# works.
for _subpackage in ("train", "predict", "report", "study"):
    import_module(f"joyful_ray.{_subpackage}")
