"""Writes the reference of the documentation from the code: recipes and verbs with every key, and the Python API.

  python -m tools.docs.reference FOLDER        # FOLDER/index.md, recipes/, verbs/, python/

`make docs` calls this. A page of a recipe or verb has its own `--help` and every key with type, default and meaning,
as the dataclasses and their docstrings say it; a page of a package has a directive for every public name, which the
builder fills from docstrings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import io
import os
import pkgutil
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import docstring_parser
import yaml

import compress
from compress.cli import VERBS, main
from compress.config import parse, parsing
from compress.config.keys import fields_of, nested_class
from tools import commands

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = ("prune", "train", "train_supernet")
HELP_COLUMNS = "84"
REQUIRED = "required"
TYPE_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Any: "any"}


class Key(NamedTuple):
    """One key of a config: its dotted name, type, default and meaning, and whether it holds keys of its own."""

    name: str
    type: str
    default: str
    meaning: str
    section: bool


class Captured(BaseException):
    """The config that a program would have parsed."""


def recipe(name: str) -> Any:
    """The module of a recipe."""
    spec = importlib.util.spec_from_file_location(f"{name}_recipe", REPOSITORY / "recipes" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up the names in their annotations
    spec.loader.exec_module(module)
    return module


def config_of_verb(name: str) -> type[Any]:
    """The dataclass that a verb parses its command line into."""

    def capture(_: Any, config_class: type[Any], *__: Any) -> None:
        raise Captured(config_class)

    original, parsing.spelt_out = parsing.spelt_out, capture
    try:
        main([name, "--help"])
    except Captured as captured:
        config: type[Any] = captured.args[0]
        return config
    finally:
        parsing.spelt_out = original
    raise ValueError(f"compress {name} parses its command line without compress.config.parse.")


def keys_of(config_class: type[Any], default: Any = None, prefix: str = "") -> Iterator[Key]:
    """Every key of a config in its order, parents before their children.

    Args:
        config_class: A dataclass.
        default: The instance that stands there if the key is not given; None: the defaults are those of the class.
        prefix: Put before every name, for example `budget.`.
    """
    annotations, meanings = fields_of(config_class), meanings_of(config_class)
    for field in filter(lambda field: field.name in annotations, dataclasses.fields(config_class)):
        value = default_of(field) if default is None else getattr(default, field.name)
        annotation = annotations[field.name]
        nested, name = nested_class(annotation), prefix + field.name
        yield Key(name, type_name(annotation), shown(value, nested), meanings.get(field.name, ""), bool(nested))
        if nested:
            yield from keys_of(nested, value if isinstance(value, nested) else None, f"{name}.")


def meanings_of(config_class: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and of those it inherits from say under `Attributes:`."""
    meanings: dict[str, str] = {}
    for ancestor in reversed(config_class.__mro__):
        parsed = docstring_parser.parse(ancestor.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
        meanings |= {entry.arg_name: " ".join((entry.description or "").split()) for entry in parsed.params}
    return meanings


def default_of(field: dataclasses.Field[Any]) -> Any:
    """A field's default; `REQUIRED` if there is none."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else REQUIRED


def type_name(annotation: Any) -> str:
    """An annotation in the words of a config file."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if nested := nested_class(annotation):
        return "keys below, or null" if type(None) in inner else "keys below" if origin is None else f"[{nested}]"
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(type_name, inner))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "names and values"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"list of {type_name(inner[0])}s" if inner[0] in TYPE_NAMES else f"list of {type_name(inner[0])}"
    return TYPE_NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def shown(value: Any, nested: type[Any] | None) -> str:
    """A default as a config file has it; nothing where the keys below have theirs."""
    if value is REQUIRED:
        return REQUIRED
    if nested and value is not None:
        return ""
    plain = list(value) if isinstance(value, tuple) else value
    return f"`{yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix('...' + chr(10)).strip()}`"


def keys_section(config_class: type[Any]) -> str:
    """All keys: those of the top, then each group of keys below them under a heading of its own."""
    groups: dict[str, list[Key]] = {"": []}
    for key in keys_of(config_class):
        groups[key.name.rpartition(".")[0]].append(key)
        if key.section:
            groups[key.name] = []
    headings = {name: f"### `{name}`" if name else "## Keys" for name in groups}
    return "\n".join(f"{headings[name]}\n\n{''.join(map(entry, keys))}" for name, keys in groups.items() if keys)


def entry(key: Key) -> str:
    """A key with type, default and meaning; it can be linked to by its name."""
    name = f"[`{key.name}`](#{anchor(key.name)})" if key.section else f"`{key.name}`{{ #{key.name} }}"
    default = key.default if key.default in ("", REQUIRED) else f"default {key.default}"
    return f"{name} — {', '.join(filter(None, (key.type, default)))}\n:   {key.meaning}\n\n"


def anchor(heading: str) -> str:
    """The anchor of a heading that is a dotted name in backticks."""
    return heading.replace(".", "")


def help_text(run: Callable[[], Any]) -> str:
    """What a program prints on `--help`."""
    output = io.StringIO()
    os.environ["COLUMNS"] = HELP_COLUMNS
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        run()
    return re.sub(r".\x08", "", output.getvalue()).rstrip()


def described(docstring: str) -> str:
    """A docstring as Markdown: what is set out in columns, and what stands indented below a colon, stays as it is."""
    parts: list[str] = []
    for paragraph in inspect.cleandoc(docstring).split("\n\n"):
        head, _, below = paragraph.partition("\n")
        if head.endswith(":") and below.startswith("  "):
            parts += [plain(head), fenced(below)]
        elif re.search(r"^ |\S {3}", paragraph, re.MULTILINE):
            parts.append(fenced(paragraph))
        else:
            parts.append(plain(" ".join(paragraph.split())))
    return "\n\n".join(parts)


def plain(text: str) -> str:
    """Text in which only backticks mean something to Markdown."""
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"([*_<>\[\]{}])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)


def fenced(text: str) -> str:
    """Text in a block that shows it as it is."""
    return f"```text\n{textwrap.dedent(text)}\n```"


def program_page(title: str, module: Any, config_class: type[Any], text: str) -> str:
    """The page of a recipe or verb: what its docstring says, its keys, its `--help`."""
    return f"# {title}\n\n{described(module.__doc__)}\n\n{keys_section(config_class)}\n## --help\n\n{fenced(text)}\n"


def recipe_page(name: str) -> str:
    """The page of a recipe."""
    module, program = recipe(name), f"{name}.py"
    text = help_text(lambda: parse(module.Config, ["--help"], prog=program, description=module.__doc__))
    return program_page(program, module, module.Config, text)


def verb(name: str) -> Any:
    """The module of a verb."""
    return importlib.import_module(f"compress.cli.{name.replace('-', '_')}")


def verb_page(name: str) -> str:
    """The page of a verb."""
    module = verb(name)
    return program_page(f"compress {name}", module, config_of_verb(name), help_text(lambda: main([name, "--help"])))


def public_names() -> dict[str, list[str]]:
    """The packages that say what is public (`__all__`), and the names they give."""
    found = {"compress": list(compress.__all__)}
    for info in pkgutil.walk_packages(compress.__path__, "compress."):
        if info.ispkg:
            names = getattr(importlib.import_module(info.name), "__all__", ())
            found |= {info.name: list(names)} if names else {}
    return found


def package_page(package: str, names: Sequence[str], documented: dict[str, str]) -> str:
    """The page of a package: what it is for, and a directive for each name that no page before has documented."""
    module = importlib.import_module(package)
    parts = [f"# {package}\n\n{inspect.cleandoc(module.__doc__ or '')}\n"]
    for name in names:
        value = getattr(module, name)
        origin = f"{getattr(value, '__module__', package)}.{name}"
        if origin in documented:
            parts.append(
                f"## {name} {{ #{package}.{name} }}\n\nThe same as [`{documented[origin]}`][{documented[origin]}].\n"
            )
        else:
            documented[origin] = f"{package}.{name}"
            parts.append(f"::: {package}.{name}\n")
    return "\n".join(parts)


def index_page() -> str:
    """What the reference holds: every page with a line on what it is about."""
    recipes = {f"recipes/{name}.md": (f"{name}.py", recipe(name)) for name in RECIPES}
    verbs = {f"verbs/{name}.md": (f"compress {name}", verb(name)) for name in VERBS}
    packages = {f"python/{name}.md": (name, importlib.import_module(name)) for name in public_names()}
    return (
        "# Reference\n\nMade from the code when this documentation was built: what recipes and verbs take, and the "
        "Python that is public.\n\n"
        f"## Recipes\n\n{linked(recipes)}\n"
        f"## Verbs of `compress`\n\n{linked(verbs)}\n"
        f"## Python\n\n{linked(packages)}"
    )


def linked(pages: Mapping[str, tuple[str, Any]]) -> str:
    """A list of links to pages, each with the first paragraph of the module that it is about."""
    first = {page: inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0] for page, (_, module) in pages.items()}
    lines = (f"- [{name}]({page}): {plain(' '.join(first[page].split()))}" for page, (name, _) in pages.items())
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every page of the reference, by its path below the folder of the reference."""
    documented: dict[str, str] = {}
    return (
        {"index.md": index_page()}
        | {f"recipes/{name}.md": recipe_page(name) for name in RECIPES}
        | {f"verbs/{name}.md": verb_page(name) for name in VERBS}
        | {
            f"python/{package}.md": package_page(package, names, documented)
            for package, names in public_names().items()
        }
    )


def write(folder: Path) -> None:
    """Writes every page."""
    for name, text in pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """Where the reference goes.

    Attributes:
        folder: Gets the pages; those of the same names are replaced.
    """

    folder: str


def write_reference(config: ReferenceConfig) -> None:
    """Writes the reference into a folder."""
    write(Path(config.folder))


if __name__ == "__main__":
    commands.main(write_reference, positional=("folder",))
