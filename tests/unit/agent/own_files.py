"""Small files of each kind that hosts read, and the project files that declare them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = """
[project]
name = "own"
access = "invited"
[data]
where = "host"
{data}
"""
DECLARED = {
    "csv": 'source = "csv"\nfiles = "data/*.csv"\ntarget = "ill"',
    "images": 'source = "images"\nfiles = "data"\nchannels = 1',
    "jsonl": 'source = "jsonl"\nfiles = "data"',
    "jsonl_table": 'source = "jsonl"\nfiles = "data"\ntarget = "ill"',
    "npy": 'source = "npy"\nfiles = "data"',
    "npz": 'source = "npz"\nfiles = "data"',
}


def researcher_writes(folder: Path, kind: str) -> Path:
    """Write 24 examples of this kind into `folder/data`."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    x = np.arange(48, dtype=np.float32).reshape(24, 2)
    y = np.arange(24) % 3
    rows = [
        {
            "age": float(number) + 0.5,
            "kind": ("cat", "dog", "?")[number % 3],
            "weight": number * 2,
            "ill": ("no", "yes")[number % 2],
        }
        for number in range(24)
    ]
    if kind == "csv":
        lines = ["age,kind,weight,ill", *(",".join(map(str, row.values())) for row in rows)]
        (data / "a.csv").write_text("\n".join(lines))
    elif kind == "jsonl_table":
        (data / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    elif kind == "jsonl":
        lines = [json.dumps({"x": x[n].tolist(), "y": int(y[n])}) for n in range(24)]
        (data / "a.jsonl").write_text("\n".join(lines))
    elif kind == "images":
        for number in range(24):
            place = data / ("cat", "dog")[number % 2] / f"{number}.png"
            place.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((4, 4), number, np.uint8)).save(place)
    elif kind == "npy":
        np.save(data / "x.npy", x)
        np.save(data / "y.npy", y)
    else:
        np.savez(data / "a.npz", x=x, y=y)
    return folder


def write_own(folder: Path, count: int) -> dict[str, np.ndarray]:
    """Write examples in the forms x float32 [2] and y from 0 to 2; return them."""
    folder.mkdir(exist_ok=True)
    x = np.random.default_rng(3).normal(size=(count, 2)).astype(np.float32)
    y = np.arange(count) % 3
    np.savez(folder / "a.npz", x=x, y=y)
    return {"x": x, "y": y}
