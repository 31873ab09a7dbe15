"""The documentation site, made of the pages in docs/ as they stand: ``make docs``."""

import tomllib
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]
_PACKAGE = tomllib.loads((_PROJECT / "pyproject.toml").read_text())["project"]

project = _PACKAGE["name"]
author = "The synapse-bench authors"
version = release = _PACKAGE["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The first page shows it.
exclude_patterns = ["start.md", "site"]
myst_heading_anchors = 4
# Its fonts and scripts are its own: a page fetches nothing.
html_theme = "furo"
html_title = f"{project} {version}"
html_theme_options = {"footer_icons": []}
html_show_sphinx = False
html_copy_source = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_use_rtype = False
# Fields of a dataclass are described where its docstring does.
napoleon_use_ivar = True
autodoc_default_options = {"members": True, "undoc-members": False}
