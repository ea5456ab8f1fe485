"""The rules of the house: who may import whom, what stays light, how files look. Most are read from the source."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.imports import FOLDERS, ROOT, imports, sources, tree
from support.torchless import HAS_TORCH

MAX_LINES = 500

MAY_IMPORT = {
    "ecc_model": set(),
    "ecc_broker": {"ecc_model"},
    "ecc_device": {"ecc_model", "ecc_broker"},
    "ecc_cloud": {"ecc_model", "ecc_broker"},
    "ecc_snn": {"ecc_model", "ecc_broker", "ecc_device"},
    "ecc_tools": {"ecc_model", "ecc_broker", "ecc_device", "ecc_cloud", "ecc_snn"},
}

# what is large or optional -> where an import statement may name it; everywhere else: ecc_model.optional.require
HEAVY = {
    "torch": (
        "model/ecc_model/nets/",
        "device/ecc_device/learning/lwf.py",
        "cloud/",
        "tools/",
    ),
    "spikingjelly": (),
    "sklearn": ("tools/",),
    "matplotlib": ("tools/",),
    "transformers": (),
    "PIL": ("tools/",),
    "cv2": (),
    "amqtt": (),
    "av": (),
    "mcap": (),
    "mcap_ros2": (),
    "lz4": (),
    "tflite": (),
    "flatbuffers": (),
    "ai_edge_litert": (),
    "tflite_runtime": (),
    "onnx": (),
    "onnxruntime": (),
}
LIGHT = [
    *("ecc_model", "ecc_broker", "ecc_broker.cli", "ecc_device", "ecc_device.cli"),
    *("ecc_snn", "ecc_snn.testing", "ecc_cloud.cli", "ecc_tools.cli"),
]
OPTIONAL = "model/ecc_model/optional.py"

# the device core runs on Python 3.10: what is younger there
CORE = ("ecc_model", "ecc_broker", "ecc_device", "ecc_snn")
YOUNGER = {
    "asyncio.TaskGroup",
    "asyncio.timeout",
    "contextlib.chdir",
    "datetime.UTC",
    "enum.StrEnum",
    "itertools.batched",
    "tomllib",
    "typing.Never",
    "typing.NotRequired",
    "typing.Self",
    "typing.override",
}
YOUNGER_NAMES = {"BaseExceptionGroup", "ExceptionGroup"}

COMMANDS = ["ecc-broker", "ecc-cloud", "ecc-device", "ecc-tools"]

SDK_NAMES = [
    *("Answer", "AsyncEdge", "EccError", "EccWarning", "Edge", "Explanation", "Result", "Stream"),
    "__version__",
]


def place(path: Path) -> str:
    """Where a file is, as people write it."""
    return path.relative_to(ROOT).as_posix()


def nodes(path: Path) -> Iterator[ast.AST]:
    """Every node of a file's syntax tree."""
    return ast.walk(tree(path))


def repository_files() -> list[Path]:
    """What is committed, or would be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def test_packages_are_those_of_pyproject() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    where = re.search(r"^where = \[(.*)\]$", text, re.MULTILINE)
    assert where is not None
    assert re.findall(r'"(\w+)"', where[1]) == list(FOLDERS.values())
    assert {path.name for folder in FOLDERS.values() for path in (ROOT / folder).glob("ecc_*")} == set(FOLDERS)


@pytest.mark.parametrize("package", FOLDERS)
def test_package_imports_only_those_above_it(package: str) -> None:
    wrong = [
        f"{place(path)}:{found.line} imports {found.name}"
        for path in sources(package)
        for found in imports(path)
        if found.package in FOLDERS and found.package not in MAY_IMPORT[package] | {package}
    ]
    assert wrong == []


def test_heavy_packages_are_imported_only_where_they_belong() -> None:
    wrong = [
        f"{place(path)}:{found.line} imports {found.name}"
        for path in sources()
        for found in imports(path)
        if found.package in HEAVY and not found.for_types and not place(path).startswith(HEAVY[found.package])
    ]
    assert wrong == []


@pytest.mark.parametrize("module", LIGHT)
def test_import_stays_light(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set({list(HEAVY)!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "[]\n")


def test_only_one_module_probes_optional_packages() -> None:
    probes = {"find_spec", "import_module", "__import__", "ImportError", "ModuleNotFoundError"}
    wrong = [
        f"{place(path)}:{node.lineno} uses {name}"
        for path in sources()
        for node in nodes(path)
        if isinstance(node, (ast.Name, ast.Attribute))
        and (name := node.id if isinstance(node, ast.Name) else node.attr) in probes
        and place(path) != OPTIONAL
    ]
    assert wrong == []


def test_optional_packages_have_an_extra_that_brings_them() -> None:
    from ecc_model.optional import _OPTIONAL

    brought = {}
    for requirement in importlib.metadata.distribution("ecc-snn").requires or []:
        named = re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", requirement)
        if named:
            brought.setdefault(named[2], set()).add(named[1])
    assert set(_OPTIONAL) == set(HEAVY)
    assert [name for name, (package, extra) in _OPTIONAL.items() if package not in brought.get(extra, set())] == []


def test_files_stay_short() -> None:
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: length for name, length in lengths.items() if length >= MAX_LINES} == {}


def test_packages_are_typed() -> None:
    assert [name for name, folder in FOLDERS.items() if not (ROOT / folder / name / "py.typed").exists()] == []


def test_package_code_validates_without_assert() -> None:
    wrong = [f"{place(path)}:{n.lineno}" for path in sources() for n in nodes(path) if isinstance(n, ast.Assert)]
    assert wrong == []


def test_no_handler_swallows_every_exception() -> None:
    wrong = [
        f"{place(path)}:{node.lineno}"
        for path in sources()
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _raises_again(node)
    ]
    assert wrong == []


def _is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    named = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException") for kind in named)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_nothing_unpickles() -> None:
    wrong = []
    for path in sources():
        wrong += [
            f"{place(path)}:{found.line} imports {found.name}" for found in imports(path) if _unpickles(found.name)
        ]
        for node in nodes(path):
            if isinstance(node, ast.Attribute) and _unpickles(ast.unparse(node)):
                wrong.append(f"{place(path)}:{node.lineno} uses {ast.unparse(node)}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
                wrong += [] if safe else [f"{place(path)}:{node.lineno} loads without weights_only=True"]
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
                wrong.append(f"{place(path)}:{node.value.lineno} allows pickle")
    assert wrong == []


def _unpickles(name: str) -> bool:
    """Whether a dotted name unpickles; pickle's own errors may be named, torch raises them."""
    module, _, rest = name.partition(".")
    if module == "pickle":
        return rest not in ("", "PickleError", "UnpicklingError")
    return module in ("cloudpickle", "dill", "joblib", "marshal", "shelve")


def test_device_core_is_python_3_10() -> None:
    wrong = []
    for path in (path for package in CORE for path in sources(package)):
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 10))
        wrong += [f"{place(path)}:{f.line} {f.name}" for f in imports(path) if {f.name, f.package} & YOUNGER]
        for node in nodes(path):
            if isinstance(node, (ast.Name, ast.Attribute)) and {ast.unparse(node)} & (YOUNGER | YOUNGER_NAMES):
                wrong.append(f"{place(path)}:{node.lineno} {ast.unparse(node)}")
    assert wrong == []


def test_commands_are_those_of_the_house() -> None:
    scripts = {entry.name for entry in _commands()}
    assert sorted(scripts) == COMMANDS
    assert [entry.name for entry in _commands() if not (ROOT / FOLDERS[entry.module.partition(".")[0]]).is_dir()] == []


def _commands() -> list[importlib.metadata.EntryPoint]:
    found = importlib.metadata.distribution("ecc-snn").entry_points
    return [entry for entry in found if entry.group == "console_scripts"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_and_its_subcommands(command: str) -> None:
    if command == "ecc-tools" and not HAS_TORCH:
        pytest.skip("ecc-tools needs torch")
    program = str(Path(sys.executable).with_name(command))
    help_ = _help([program])
    subcommands = re.findall(r"^  ([a-z][\w-]*)(?:  |$)", help_.partition("Commands:")[2], re.MULTILINE)
    assert subcommands
    without_example = [name for name in subcommands if "Example" not in _help([program, name])]
    assert without_example == []


def _help(command: list[str]) -> str:
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_public_names_of_the_sdk() -> None:
    import ecc_snn

    assert sorted(ecc_snn.__all__) == SDK_NAMES
    assert [name for name in SDK_NAMES if not hasattr(ecc_snn, name)] == []


def test_version_is_the_newest_of_the_changelog() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version is not None
    assert released[:1] == [version[1]]


def test_core_dependencies_and_torch_are_constrained() -> None:
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    required = importlib.metadata.distribution("ecc-snn").requires or []
    core = {re.split(r"[^\w-]", requirement)[0] for requirement in required if "extra ==" not in requirement}
    assert core | {"torch", "torchvision", "torchaudio", "spikingjelly"} <= pinned


# written in halves, or this file would hold what it forbids
PLACES = re.compile(r"(?<![\w.>)])/(?:home|root|work|Users)/\w|" + "py" + r"pi\.org/simple|--(?:extra-)?index" + "-url")
INDEXES = re.compile(r"files\.python" + r"hosted\.org|download\.py" + r"torch\.org")


def test_no_file_names_a_machine_or_a_package_index() -> None:
    wrong = []
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if PLACES.search(line) or INDEXES.search(line):
                wrong.append(f"{place(path)}:{number}: {line.strip()[:80]}")
    assert wrong == []


def test_local_links_of_the_documents_lead_somewhere() -> None:
    wrong = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not (path.parent / target).exists():
                wrong.append(f"{place(path)} links to {target}")
    assert wrong == []


def test_reference_is_what_the_docstrings_say() -> None:
    rendered = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))["render"]()
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == rendered, "docs/reference.md is not up to date; write it anew with: make reference"
