"""Which notebooks are chapters: those that `_toc.yml` names, and no others. And what an executed one must hold."""

import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PICTURES = {"image/png", "image/svg+xml"}


def pages(root: Path = ROOT) -> list[Path]:
    """The files behind the table of contents, in its order."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    spelled = [[root / f"{name}{suffix}" for suffix in (".ipynb", ".md")] for name in _files(contents)]
    found = [next(filter(Path.is_file, paths), paths[0]) for paths in spelled]
    missing = [str(path.relative_to(root)) for path in found if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"_toc.yml names pages that do not exist: {', '.join(missing)}")
    return found


def notebooks(root: Path = ROOT) -> list[Path]:
    return [path for path in pages(root) if path.suffix == ".ipynb"]


def named(words: list[str], root: Path = ROOT) -> list[Path]:
    """The chapters meant by `bulk`, `bulk.ipynb` or `chapters/bulk.ipynb`; all of them when there is no word."""
    known = {path.stem: path for path in notebooks(root)}
    names = [Path(word.replace("\\", "/")).name.removesuffix(".ipynb") for word in words]
    wrong = [word for word, name in zip(words, names, strict=True) if name not in known]
    if wrong:
        sys.exit(f"No chapter is called {' or '.join(wrong)}: the chapters are {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)] or list(known.values())


def code(path: Path) -> str:
    """All the code of a chapter."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def lacks_its_picture(cell: dict, outputs: list[dict]) -> bool:
    """Whether a cell that has a figure or its description in its metadata has shown no picture."""
    described = {"figure", "image"} & set(cell["metadata"].get("mystnb", {}))
    return bool(described) and not any(PICTURES & set(output.get("data", {})) for output in outputs)


def flaws(notebook: dict, name: str) -> list[str]:
    """What is wrong with an executed chapter: errors, and figures that are not there. A sentence each."""
    found = []
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, start=1):
        where = f"{name}, code cell {number} ({''.join(cell['source']).strip().partition(chr(10))[0]!r})"
        found += [f"{where} ended in {o['ename']}" for o in cell["outputs"] if o["output_type"] == "error"]
        if lacks_its_picture(cell, cell["outputs"]):
            found.append(f"{where} has a figure in its metadata and stored no picture")
    return found


def _files(contents) -> list[str]:
    """Every page of the table of contents, at any depth."""
    if isinstance(contents, list):
        return [name for item in contents for name in _files(item)]
    if not isinstance(contents, dict):
        return []
    own = [contents[key] for key in ("root", "file") if key in contents]
    return own + [name for key, value in contents.items() if key not in ("root", "file") for name in _files(value)]
