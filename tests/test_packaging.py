"""The package as a thing to install and import: names, stubs, extras, and what importing it pulls in."""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
import tomllib
from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import fastconv
from fastconv import _spec
from fastconv._optional import require
from kit import run_python

PACKAGE = Path(fastconv.__file__).parent
REPOSITORY = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
EXTENSIONS = sorted(path.stem for path in (REPOSITORY / "src_cython").glob("*.pyx"))
MODULES = sorted(
    m.name for m in pkgutil.walk_packages([str(PACKAGE)], "fastconv.") if "__main__" not in m.name
)


def requirements(extra: str) -> set[str]:
    """Names of the distributions that an extra installs, its references to other extras followed."""
    names = set()
    for requirement in PYPROJECT["project"]["optional-dependencies"][extra]:
        name, inner = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement).groups()
        if name == "fastconv":
            names |= {found for each in inner.split(",") for found in requirements(each)}
        else:
            names.add(name)
    return names


def rooms(name: str = "fastconv") -> list[str]:
    """The modules that users see: the package and those that the `__all__` of a room lists."""
    module = importlib.import_module(name)
    inner = [each for each in getattr(module, "__all__", ()) if inspect.ismodule(getattr(module, each))]
    return [name, *(found for each in inner for found in rooms(f"{name}.{each}"))]


def required_packages() -> list[tuple[str, str, str]]:
    """(file, package, extra) of every call of ``_optional.require`` in the package that names its module."""
    calls = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    ast.Name("require"), [ast.Constant(module)], [ast.keyword("extra", ast.Constant(extra))]
                ):
                    calls.append((str(path.relative_to(PACKAGE)), module.partition(".")[0], extra))
    return calls


def test_version_is_the_metadata_s():
    try:
        installed = importlib.metadata.version("fastconv")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the source tree is tested in place, nothing is installed")
    assert installed == fastconv.__version__


def test_console_script_is_callable():
    module, name = PYPROJECT["project"]["scripts"]["fastconv"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("name", rooms())
def test_all_lists_what_is_public(name):
    """Nothing more, nothing less: what a module defines, and in a package also what it takes from its modules."""
    module = importlib.import_module(name)
    origin = "fastconv" if hasattr(module, "__path__") else name
    public = {
        each
        for each, value in vars(module).items()
        if not each.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and (value.__module__ + ".").startswith(origin + ".")
    }
    assert public <= set(module.__all__), f"{name} has public names that its __all__ lacks"
    missing = [each for each in module.__all__ if not hasattr(module, each)]
    assert not missing, f"{name}.__all__ lists names that are not there"
    assert len(module.__all__) == len(set(module.__all__))


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extension_is_compiled(name):
    origin = importlib.util.find_spec(f"fastconv.{name}").origin
    assert origin.endswith(tuple(EXTENSION_SUFFIXES))


@pytest.mark.parametrize("name", EXTENSIONS)
def test_stub_matches_extension(name):
    """Each stub names the module's functions and constants, with the same parameters; classes stay inside."""
    module = importlib.import_module(f"fastconv.{name}")
    real = {
        each: value
        for each, value in vars(module).items()
        if not (each.startswith("__") or inspect.ismodule(value) or inspect.isclass(value))
        and getattr(value, "__module__", module.__name__) == module.__name__
    }
    stub = ast.parse((PACKAGE / f"{name}.pyi").read_text(encoding="utf-8"))
    functions = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef)}
    constants = {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    assert set(functions) | constants == set(real)
    for each, node in functions.items():
        assert [argument.arg for argument in node.args.args] == list(
            inspect.signature(real[each]).parameters
        ), each


def test_import_needs_numpy_alone():
    """Importing every module of the package loads no optional package: they load where they are used.

    But for the modules whose classes are scikit-learn's or ONNX's by inheritance, and for what serves PyTorch or a
    device alone.
    """
    apart = ["fastconv.sklearn", "fastconv.onnx.backend", "fastconv.torch"]
    apart += [f"fastconv.backends.cuda.{name}" for name in ("_numba", "intrinsics", "kernels")]
    modules = [name for name in MODULES if not name.startswith(tuple(apart))]
    optional = {
        "google.protobuf",
        "matplotlib",
        "mlxtend",
        "numba",
        "onnx",
        "pandas",
        "safetensors",
        "scipy",
        "sklearn",
    }
    optional |= {"tensorboard", "threadpoolctl", "torch", "tqdm"}
    code = f"""
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
print(*sorted({optional} & set(sys.modules)))
"""
    assert run_python("-c", code).split() == []


def test_import_loads_little():
    """What `import fastconv` costs beside NumPy's own import: its own modules and a few small ones, none for files."""
    code = """
import sys, numpy
before = set(sys.modules)
import fastconv
print(*sorted(set(sys.modules) - before))
"""
    loaded = set(run_python("-c", code).split())
    own = {name for name in loaded if name.partition(".")[0] == "fastconv"}
    assert not {"json", "tempfile", "pathlib", "platform", "urllib", "random"} & loaded
    assert (
        not {"fastconv.nn", "fastconv.ops", "fastconv.plan", "fastconv.backends.cpu", "fastconv.explain"}
        & own
    )
    assert len(own) <= 16
    assert len(loaded - own) <= 12


def test_specs_have_the_methods_of_their_base():
    """None that ``dataclass`` compiles, which would take most of the time of the import."""
    specs = [each for each in vars(_spec).values() if isinstance(each, type) and issubclass(each, _spec.Spec)]
    assert len(specs) > 10
    for spec in set(specs) - {_spec.Spec}:
        assert not {"__init__", "__eq__", "__repr__", "__hash__", "__setattr__"} & set(vars(spec)), spec


def test_specs_are_values():
    spec = _spec.ActivationSpec(kind="relu", size=3, dtype="float32")
    other = replace(spec, size=4)
    assert spec == replace(other, size=3) != other
    assert hash(spec) == hash(replace(spec)) != hash(other)
    assert repr(spec) == "ActivationSpec(kind='relu', size=3, dtype='float32', slope=0.0)"
    assert spec != _spec.AddSpec(size=3, dtype="float32")
    drawn = _spec.DropoutSpec(size=3, inner=1, p=0.5, seed=1, offset=2)
    assert drawn == replace(drawn, seed=2, offset=0) != replace(drawn, p=0.25)
    with pytest.raises(AttributeError, match="does not change"):
        spec.size = 4
    for values in ({"kind": "relu", "size": 3}, {"kind": "relu", "size": 3, "dtype": "float32", "width": 1}):
        with pytest.raises(TypeError, match=r"ActivationSpec takes .*'size'"):
            _spec.ActivationSpec(**values)


def test_every_required_package_is_in_its_extra():
    calls = required_packages()
    assert calls
    distributions = {"PIL": "pillow", "numba": "numba-cuda", "sklearn": "scikit-learn"}
    wrong = [
        f"{path}: {package} is not in the extra {extra!r}"
        for path, package, extra in calls
        if distributions.get(package, package) not in requirements(extra)
    ]
    assert not wrong


@pytest.mark.parametrize(("package", "extra"), sorted({call[1:] for call in required_packages()}))
def test_missing_package_names_the_extra(package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=re.escape(f"pip install 'fastconv[{extra}]'")):
        require(package, extra=extra)


def test_extra_all_covers_the_others():
    extras = PYPROJECT["project"]["optional-dependencies"]
    everything = {name for extra in extras if extra != "dev" for name in requirements(extra)}
    assert requirements("all") == everything


def test_core_depends_on_numpy_alone():
    names = {re.match(r"[\w-]+", requirement).group() for requirement in PYPROJECT["project"]["dependencies"]}
    assert names == {"numpy"}
