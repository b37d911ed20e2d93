"""Detector weights and the catalogue that says what each of them is.

The catalogue (``catalogue.toml``) names every model with its source, licence, checksum, input size and classes; a file
that differs from its entry is refused before a runtime sees it. The folder holds the weights that Snellius ships with.
"""

from models.catalogue import (
    MAX_BOTTOM_OFFSET,
    Catalogue,
    CatalogueError,
    Head,
    Model,
    Runtime,
    checksum,
    keep_own,
    load_catalogue,
    own_folder,
    own_models,
)

__all__ = [
    "MAX_BOTTOM_OFFSET",
    "Catalogue",
    "CatalogueError",
    "Head",
    "Model",
    "Runtime",
    "checksum",
    "keep_own",
    "load_catalogue",
    "own_folder",
    "own_models",
]
