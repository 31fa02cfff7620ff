"""What Sphinx is told to make the API reference with; see scripts/reference."""

from importlib.metadata import version as version_of
from typing import Any

project = "spiketape"
author = "The spiketape authors"
release = version = version_of("spiketape")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx_click"]
html_theme = "furo"
html_show_sourcelink = False
html_copy_source = False
# In docstrings, `name` refers to what has that name, and ``text`` is literal.
default_role = "py:obj"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
autodoc_default_options = {"members": True, "inherited-members": "BaseException,OSError"}
autodoc_typehints = "signature"
autodoc_member_order = "groupwise"


def _escape_stars(_: object, __: object, lines: list[str]) -> None:
    """Let help texts be shown as they are: a star in one is no markup."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Any) -> None:
    """Called by Sphinx, once."""
    app.connect("sphinx-click-process-description", _escape_stars)
