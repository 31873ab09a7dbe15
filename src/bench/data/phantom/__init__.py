"""Synthetic serial-section electron microscopy with known truth."""

from bench.data.phantom.region import Region, make_region
from bench.data.phantom.render import DOMAINS
from bench.data.phantom.write import write_phantom

__all__ = ["DOMAINS", "Region", "make_region", "write_phantom"]
