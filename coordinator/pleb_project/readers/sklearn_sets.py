"""scikit-learn's own data sets: they come with the package, nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from pleb_project.readers.spool import Rows

__all__ = ["DATASETS", "read_sklearn"]

DATASETS: Final = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")


def read_sklearn(name: str) -> Rows:
    """Return `x` float32 and `y` of a data set; digits as images [8, 8], the rest as tables.

    Tables are standardised by column. `y` is int64 for classes and float32 for numbers.

    Raises:
        InputError: there is no such data set, or no scikit-learn.
    """
    if name not in DATASETS:
        known = ", ".join(f"sklearn:{known}" for known in DATASETS)
        raise InputError(f"There is no data set 'sklearn:{name}'; there are {known}.")
    try:
        from sklearn import datasets
    except ImportError as error:
        raise InputError(
            "scikit-learn is missing: install it with `pip install scikit-learn`."
        ) from error
    loaders: dict[str, Any] = {
        "breast_cancer": datasets.load_breast_cancer,
        "diabetes": datasets.load_diabetes,
        "digits": datasets.load_digits,
        "iris": datasets.load_iris,
        "linnerud": datasets.load_linnerud,
        "wine": datasets.load_wine,
    }
    bunch = loaders[name]()
    classes = bunch["target"].dtype.kind in "iu"
    y = bunch["target"].astype(np.int64 if classes else np.float32)
    if name == "digits":
        return {"x": bunch["images"].astype(np.float32) / np.float32(16), "y": y}
    table = bunch["data"].astype(np.float64)
    spread = table.std(axis=0)
    standard = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return {"x": standard.astype(np.float32), "y": y}
