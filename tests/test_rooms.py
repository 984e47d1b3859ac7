"""The house: which room may look into which. Read from the source, so that a wrong import fails
before it runs."""

import ast
from pathlib import Path

import diffgeo

ROOT = Path(diffgeo.__file__).parent

# From the bottom up: a room imports rooms of the floors below its own, never of its own floor or
# above.
FLOORS = (
    {"core", "errors"},
    {"machine"},
    {"schedule", "store", "parameterization", "tables"},
    {"denoiser", "analytic", "nn"},
    {"sampler"},
    {"simulation", "training", "data", "pretrained"},
    {"inverse"},
    {"geometry", "config"},
    {"metrics", "run"},
    {"theory"},
    {"plot"},
    {"report"},
    {"commands", "library"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
NO_ROOM = ("__init__", "__main__")  # the package itself: a list of names, and the door to cli


def is_for_types(node: ast.stmt) -> bool:
    """Whether a statement is `if TYPE_CHECKING:`, whose imports do not happen."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imported(tree: ast.AST) -> set[str]:
    """The dotted names of diffgeo that a module imports, at its top or inside a function."""
    names = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "diffgeo":
            names |= {f"diffgeo.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif not (isinstance(node, ast.stmt) and is_for_types(node)):
            names |= imported(node)
    return {name for name in names if name.startswith("diffgeo.")}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name without `diffgeo.`."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports() -> list[tuple[str, str]]:
    """(module, what it imports), both without `diffgeo.`."""
    pairs = []
    for name, path in modules().items():
        if name not in NO_ROOM:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            pairs += [(name, other.removeprefix("diffgeo.")) for other in imported(tree)]
    return sorted(pairs)


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_has_a_room():
    assert {room(name) for name in modules()} - set(NO_ROOM) <= set(FLOOR)


def test_imports_go_one_way():
    wrong = [
        f"{module} imports {other}"
        for module, other in imports()
        if room(other) in FLOOR
        and room(module) != room(other)
        and FLOOR[room(module)] <= FLOOR[room(other)]
    ]
    assert wrong == []


def test_no_command_is_a_library():
    """What two commands share has a room of its own: a command imports none but those of its own
    folder."""
    wrong = [
        f"{module} imports {other}"
        for module, other in imports()
        if room(module) == room(other) == "commands" and module.split(".")[1] != other.split(".")[1]
    ]
    assert wrong == []


def test_pictures_are_of_numbers():
    """plot/ takes arrays and names: it knows a law by its protocol, and no record of a room."""
    seen = {room(other) for module, other in imports() if room(module) == "plot"}
    assert seen - {"plot"} <= {"core", "errors", "store"}


def test_the_maths_imports_neither_hydra_nor_plots():
    """core to geometry, metrics and theory: Hydra, W&B and matplotlib are the command line's."""
    foreign = {"hydra", "omegaconf", "wandb", "matplotlib"}
    clean = [
        *FLOORS[0],
        *FLOORS[3],
        *FLOORS[4],
        *FLOORS[5],
        *FLOORS[6],
        "schedule",
        "geometry",
        "metrics",
    ]
    wrong = []
    for name, path in modules().items():
        if room(name) in clean:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                heads = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                heads += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                wrong += [
                    f"{name} imports {head}" for head in heads if head.split(".")[0] in foreign
                ]
    assert wrong == []
