"""`python -m joyful_ray` is `joyful`."""

import sys

from joyful_ray.cli import main

if __name__ == "__main__":
    sys.exit(main())
