"""The packages of the wheel; all else is in pyproject.toml.

The entry points lie in a folder of their own, which only this way becomes a package.
"""

from setuptools import find_packages, setup

_ENTRY_POINTS = "synapse_bench_entrypoints"

setup(
    packages=[*find_packages("src"), _ENTRY_POINTS],
    package_dir={"": "src", _ENTRY_POINTS: "entrypoints"},
)
