"""The house keeps its order: imports point one way, few modules know Ray, and every name says what is in it."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "joyful_ray"

# A module may import from its own room and from the rooms before it.
ROOMS = [
    "version",
    "wording",
    "errors",
    "termination",
    "memory",
    "schema",
    "components",
    "sections",
    "model_settings",
    "settings",
    "graph_settings",
    "search_settings",
    "transfer_settings",
    "study_settings",
    "compatibility",
    "config",
    "setting_reference",
    "records",
    "storage",
    "corpora",
    "data",
    "graph",
    "model",
    "objective",
    "train",
    "tune",
    "study",
    "certify",
    "predict",
    "assess",
    "retrieval",
    "report",
    "submit",
    "integrations",
    "api",
    "demo",
    "doctor",
    "console",
    "commands",
    "cli",
    "__main__",
]
MAY_IMPORT_RAY = {
    "data.ingest",
    "train.on_ray",
    "tune",
    "certify.nodes",
    "predict",
    "submit",
}
# Rank and world size exist from here on.
MAY_IMPORT_DISTRIBUTED = {"train", "tune", "predict"}
BASICS = {"wording", "errors", "schema", "components"}
SETTINGS = {
    "sections",
    "model_settings",
    "settings",
    "graph_settings",
    "search_settings",
    "transfer_settings",
    "study_settings",
}
# Rooms that see less than the order would let them.
SEES_ONLY = {
    "objective": {*BASICS, *SETTINGS, "config", "data", "model", "objective"},
    "report": {
        "wording",
        "errors",
        "schema",
        "components",
        *SETTINGS,
        "config",
        "records",
        "storage",
        "tune",
        "report",
    },
}
KNOWS_NEITHER_TORCH_NOR_RAY = [
    "errors",
    "wording",
    "schema",
    "model_settings",
    "settings",
    "graph_settings",
    "search_settings",
    "transfer_settings",
    "study_settings",
    "compatibility",
    "config",
    "records",
    "storage",
    "corpora",
    "report",
    "console",
    "commands",
    "cli",
]
SAYS_NOTHING = {"util", "utils", "helper", "helpers", "manager", "managers", "misc", "common"}
LONGEST_MODULE, LONGEST_FUNCTION = 320, 60
TOP_LEVEL = {
    "joyful_ray",
    "jobs",
    "cluster",
    "tests",
    "pyproject.toml",
    "README.md",
    "Makefile",
    "requirements.lock",
    "LICENSE",
}


def module_name(path: Path) -> str:
    """`train/launch.py` is `train.launch`; a package's `__init__.py` bears the package's name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(module: str) -> frozenset[str]:
    """All that a module imports, also inside functions, as full dotted names."""
    found = set()
    path = MODULES[module]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                package = ["joyful_ray", *path.relative_to(PACKAGE).parts[:-1]]
                source = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return frozenset(found)


def own_imports(module: str) -> set[str]:
    """The modules of this package that a module imports."""
    names = {name.removeprefix("joyful_ray.") for name in imports(module) if name.startswith("joyful_ray.")}
    return names & MODULES.keys()


def outside_imports(module: str) -> set[str]:
    return {name for name in imports(module) if not name.startswith("joyful_ray")}


def room(module: str) -> str:
    return module.split(".")[0]


def lies_in(module: str, places: set[str]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


def knows(module: str, library: str) -> bool:
    return any(name == library or name.startswith(library + ".") for name in outside_imports(module))


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_imports_point_up_the_list_of_rooms(module: str) -> None:
    assert room(module) in ROOMS, f"{module} stands in no room of the design; give it a place in ROOMS"
    below = {name for name in own_imports(module) if ROOMS.index(room(name)) > ROOMS.index(room(module))}
    assert not below, f"{module} imports {sorted(below)}, which come after it"


def runtime_imports(module: str) -> set[str]:
    """The modules of this package that a module imports when it runs, also inside functions."""
    tree = ast.parse(MODULES[module].read_text())
    types_only = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    skipped = {id(inner) for node in types_only for inner in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    names = {name.removeprefix("joyful_ray.") for name in found if name.startswith("joyful_ray.")}
    return (names & MODULES.keys()) - {module}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: runtime_imports(module) for module in MODULES}
    while free := {module for module, needed in graph.items() if not needed & graph.keys()}:
        graph = {module: needed for module, needed in graph.items() if module not in free}
    assert not graph, f"these import each other, directly or through others: {sorted(graph)}"


@pytest.mark.parametrize("module", MODULES)
def test_only_the_named_modules_import_ray(module: str) -> None:
    if not lies_in(module, MAY_IMPORT_RAY):
        assert not knows(module, "ray"), f"{module} imports ray; only {sorted(MAY_IMPORT_RAY)} may"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_above_train_knows_rank_or_world_size(module: str) -> None:
    if not lies_in(module, MAY_IMPORT_DISTRIBUTED):
        assert not knows(module, "torch.distributed"), f"{module} imports torch.distributed"


@pytest.mark.parametrize("narrow_room", SEES_ONLY)
def test_a_narrow_room_sees_only_what_it_needs(narrow_room: str) -> None:
    for module in MODULES:
        if room(module) == narrow_room:
            seen = {room(name) for name in own_imports(module)}
            assert seen <= SEES_ONLY[narrow_room], f"{module} imports from {sorted(seen - SEES_ONLY[narrow_room])}"


@pytest.mark.parametrize("light_room", KNOWS_NEITHER_TORCH_NOR_RAY)
def test_a_light_room_knows_neither_torch_nor_ray(light_room: str) -> None:
    for module in MODULES:
        if room(module) == light_room:
            assert not knows(module, "torch"), f"{module} imports torch"
            assert not knows(module, "ray"), f"{module} imports ray"


def test_report_reaches_neither_torch_nor_ray_through_others() -> None:
    waiting = [module for module in MODULES if room(module) == "report"]
    reached: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += own_imports(module)
    assert not {module for module in reached if knows(module, "torch") or knows(module, "ray")}


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_fit_a_reader(module: str) -> None:
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE, f"{module} has {len(text.splitlines())} lines; divide it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{module}.{node.name} has {length} lines"


def test_every_name_says_what_is_in_it() -> None:
    named = {
        path
        for folder in ("joyful_ray", "tests")
        for path in (CHECKOUT / folder).rglob("*")
        if path.suffix in ("", ".py")
    }
    vague = {str(path) for path in named if SAYS_NOTHING & set(path.stem.removeprefix("test_").split("_"))}
    assert not vague


def test_the_top_level_holds_what_the_design_names() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    tops = {name.split("/")[0] for name in listed.stdout.splitlines()}
    assert {name for name in tops if not name.startswith(".")} <= TOP_LEVEL


def test_the_parser_sees_imports_inside_functions_and_relative_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "probe.py"
    path.write_text("def f():\n    import ray.data\n    from .. import train\n    from .heads import Head\n")
    monkeypatch.setitem(MODULES, "model.probe", path)
    found = imports("model.probe")
    imports.cache_clear()
    assert {"ray.data", "joyful_ray.train", "joyful_ray.model.heads.Head"} <= found
