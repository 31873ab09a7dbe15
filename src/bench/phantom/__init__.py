"""Synthetic serial-section electron microscopy with known truth."""

from bench.phantom.region import PhantomRegion, make_region
from bench.phantom.render import DOMAINS
from bench.phantom.write import write_phantom

__all__ = ["DOMAINS", "PhantomRegion", "make_region", "write_phantom"]
