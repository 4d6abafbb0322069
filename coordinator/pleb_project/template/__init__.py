"""What `pleb-project new` writes: projects that run at once, each a folder beside this file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

from pleb_shared.errors import InputError

__all__ = ["FIRST", "TEMPLATES", "write_template"]

TEMPLATES: Final = {
    "classifier": "classes from a row of numbers",
    "language-model": "a small GPT over the bytes of a text",
    "tabular": "a CSV with numbers and categories",
    "regression": "a number from a row of numbers",
    "lora": "fine-tuning a GPT-2 from a Hugging Face folder with LoRA",
    "diffusion": "a diffusion model of small images",
}
"""Name and what it is."""
FIRST: Final = {
    "lora": "First: put the model's Hugging Face folder into {folder}/base (see model.py's top)",
    "tabular": "With a table of your own: `check` lists its columns, whose numbers model.py needs",
}
"""What a researcher must do before the template can be trained, or with data of their own."""
_NAME: Final = "PROJECT_NAME"
_FOLDER: Final = Path(__file__).parent


def write_template(folder: Path, template: str = "classifier") -> list[Path]:
    """Write the files of a template into `folder` and return their paths.

    Raises:
        InputError: there is no such template, one of the files exists already, or the folder
            cannot be made.
    """
    if template not in TEMPLATES:
        near = difflib.get_close_matches(template, TEMPLATES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TEMPLATES)}."
        raise InputError(f"There is no template {template!r}: {hint}")
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in folder.resolve().name.lower())
    name = name.strip("-")[:40].strip("-") or "my-project"
    sources = sorted(file for file in (_FOLDER / template).iterdir() if file.is_file())
    texts = {folder / file.name: file.read_text(encoding="utf-8") for file in sources}
    for file in texts:
        if file.exists():
            raise InputError(f"{file} already exists: choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            file.write_text(text.replace(_NAME, name), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    return list(texts)
