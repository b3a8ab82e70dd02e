"""The modelling file that travels with a compressed checkpoint, made from the very sources of this package.

It holds the definitions that a family's compressed classes need, found by following names from `compressed_classes`
through the modules that it stands on, and nothing else: so it cannot drift from the package, and needs no library but
those that the original model needs.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby

from compress.conformers import Family, registry
from compress.files.shipped import __version__
from compress.model.classes import compressed_classes

PACKAGE = "compress"
LINE_LENGTH = 120
ROOTS = (compressed_classes.__name__, "MODELLING_FILE", "Path", "PreTrainedConfig")
"""What the end of the file uses."""
FAMILIES_NAME = "FAMILIES"
"""The name that the file defines itself: it knows one family."""

_TEMPLATE = '''\
"""What a checkpoint needs to load that holds a Conformer speech recogniser which was made physically smaller.

This file travels with the checkpoint, so that it loads without any package but those of the original model:

    from transformers import {auto}

    model = {auto}.from_pretrained("path/or/repository", trust_remote_code=True)

Its processor takes trust_remote_code=True, too; without that, transformers stops and asks.
With conformer-compress installed, `import compress` does instead, and nothing in this file is run.
Written by conformer-compress {version} (Apache-2.0) from its own sources, whose names stand above each part.
"""

from __future__ import annotations

{imports}

{parts}


# What follows is of this checkpoint's family.

{families} = ({family},)
SOURCE = Path(__file__).read_text(encoding="utf-8")


def write_beside(config: PreTrainedConfig, folder: Path) -> None:
    """Writes this very file, so that a checkpoint that is saved again stays complete."""
    (folder / MODELLING_FILE).write_text(SOURCE, encoding="utf-8")


classes = compressed_classes({family}, write_beside)
{config}, {model} = classes
'''


@lru_cache
def modelling_file(family: Family) -> str:
    """The text of the modelling file of a family's compressed checkpoints; the same for all of them."""
    constant = next(name for name, value in vars(registry).items() if value is family)
    base = family.original_class
    assert base.config_class is not None
    sources = Sources()
    sources.read(compressed_classes.__module__)
    definitions, imported = sources.needed(constant, *ROOTS)
    return _TEMPLATE.format(
        config=f"Compressed{base.config_class.__name__}",
        model=f"Compressed{base.__name__}",
        auto=family.auto_class,
        version=__version__,
        imports=_write_imports([sources.imports[name] for name in imported]),
        parts=_write_parts(definitions),
        families=FAMILIES_NAME,
        family=constant,
    )


@dataclass(frozen=True)
class Definition:
    """A function, class or constant at the top of a module.

    Attributes:
        module: the module.
        line: its first line there.
        source: its text.
        names: every name that occurs in it.
    """

    module: str
    line: int
    source: str
    names: frozenset[str]


@dataclass(frozen=True, order=True)
class Import:
    """One imported name: `from module import name as alias`; without a name the module itself."""

    module: str
    name: str
    alias: str

    def __str__(self) -> str:
        own = self.name or self.module
        return own if own == self.alias else f"{own} as {self.alias}"


@dataclass
class Sources:
    """What modules of the package define and import at their top.

    Attributes:
        modules: in the order in which they can be executed.
        definitions: by the name that is defined and the module.
        imports: from other libraries, by the name that is imported.
    """

    modules: list[str] = field(default_factory=list)
    definitions: dict[str, dict[str, Definition]] = field(default_factory=dict)
    imports: dict[str, Import] = field(default_factory=dict)

    def read(self, module: str) -> None:
        """Reads a module, after those of the package that it imports."""
        if module in self.modules:
            return
        text = inspect.getsource(importlib.import_module(module))
        statements = ast.parse(text).body
        for statement in statements:
            for imported in _imports(statement):
                if imported.module.split(".")[0] == PACKAGE:
                    self.read(imported.module)
                else:
                    self.imports[imported.alias] = imported
        self.modules.append(module)
        for statement in statements:
            name = _defined(statement)
            if name and not name.startswith("__"):
                self.definitions.setdefault(name, {})[module] = _definition(module, statement, text)

    def needed(self, *roots: str) -> tuple[list[Definition], list[str]]:
        """The definitions that some names need, in the order in which they can be executed, and the imported names."""
        wanted, definitions = [(name, "") for name in roots], dict[str, Definition]()
        names = {FAMILIES_NAME}
        while wanted:
            name, module = wanted.pop()
            definition = self._find(name, module)
            assert definition is None or definitions.get(name, definition) == definition, f"two modules define {name}"
            if name not in names and definition:
                definitions[name] = definition
                wanted += [(used, definition.module) for used in definition.names]
            names.add(name)
        ordered = sorted(definitions.values(), key=lambda each: (self.modules.index(each.module), each.line))
        return ordered, sorted(names & self.imports.keys())

    def _find(self, name: str, module: str) -> Definition | None:
        """What a name means in a module: its own definition, or that of the one module that it can be imported from."""
        places = self.definitions.get(name, {})
        assert len(places) <= 1 or module in places, f"{' and '.join(places)} define {name}, which {module} uses"
        return places.get(module) or next(iter(places.values()), None)


def _imports(statement: ast.stmt) -> list[Import]:
    if isinstance(statement, ast.Import):
        return [Import(alias.name, "", alias.asname or alias.name) for alias in statement.names]
    if isinstance(statement, ast.ImportFrom) and statement.module != "__future__":
        return [Import(str(statement.module), alias.name, alias.asname or alias.name) for alias in statement.names]
    return []


def _defined(statement: ast.stmt) -> str | None:
    """The name that a statement at the top of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return statement.name
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    return target.id if isinstance(target, ast.Name) else None


def _definition(module: str, statement: ast.stmt, text: str) -> Definition:
    decorators = [decorator.lineno for decorator in getattr(statement, "decorator_list", ())]
    first, last = min([statement.lineno, *decorators]), statement.end_lineno
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return Definition(module, first, "\n".join(text.splitlines()[first - 1 : last]), frozenset(names))


def _write_imports(imports: Sequence[Import]) -> str:
    """Import statements, those of the standard library first."""
    whole = [f"import {entry}" for entry in sorted(imports) if not entry.name]
    parts = [
        _write_import(module, sorted(map(str, names)))
        for module, names in groupby(sorted(entry for entry in imports if entry.name), key=lambda entry: entry.module)
    ]
    standard = [line for line in (*whole, *parts) if _is_standard(line)]
    others = [line for line in (*whole, *parts) if not _is_standard(line)]
    return "\n".join(standard) + "\n\n" + "\n".join(others)


def _write_import(module: str, names: Sequence[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    return line if len(line) <= LINE_LENGTH else f"from {module} import (\n    " + ",\n    ".join(names) + ",\n)"


def _is_standard(line: str) -> bool:
    return line.split()[1].split(".")[0] in sys.stdlib_module_names


def _write_parts(definitions: Sequence[Definition]) -> str:
    parts = []
    for module, chosen in groupby(definitions, key=lambda definition: definition.module):
        heading = f"# {module.replace('.', '/')}.py"
        parts.append("\n\n\n".join([heading, *(definition.source for definition in chosen)]))
    return "\n\n\n".join(parts)
