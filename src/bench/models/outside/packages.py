"""Packages that only some networks need, and that may not be installed."""

import importlib.metadata

from bench.errors import BenchError
from bench.models.networks import Network


def check_packages(network: Network) -> None:
    """Checks that what a network needs is installed.

    Raises:
        BenchError: If a package is missing.
    """
    for package in network.packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError as error:
            terms = f"; its licence is {network.licence}" if network.licence else ""
            how = f" ({network.installed_by}{terms})" if network.installed_by else ""
            raise BenchError(
                f"the network {network.name} needs the package {package}, which is not installed: "
                f"install it{how}, or choose another method"
            ) from error


def has_packages(network: Network) -> bool:
    """Whether what a network needs is installed."""
    try:
        check_packages(network)
    except BenchError:
        return False
    return True


def package_versions(network: Network) -> dict[str, str]:
    """The versions of what a network needs, by package."""
    return {package: importlib.metadata.version(package) for package in network.packages}
