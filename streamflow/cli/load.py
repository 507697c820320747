"""Finds the topology that a command line names: a module path or a file, and an attribute of it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from streamflow.errors import SettingsError, StreamflowError, TopologyError
from streamflow.topology import Topology

ATTRIBUTE = "topology"


def load_topology(target: str) -> Topology:
    """The topology that `target` names.

    The current folder goes on `sys.path` first, so that a project needs no installation.

    Args:
        target: `package.module` or `path/to/file.py`; with `:name` where the topology's
            attribute is not called `topology`.

    Raises:
        SettingsError: there is no such module, file or attribute.
        TopologyError: it is there and cannot be built; in the topology's own words, or with the
            file and line where importing it stopped.
    """
    where, _, attribute = target.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    is_file = where.endswith(".py") or os.sep in where
    module = _from_file(Path(where)) if is_file else _from_module(where, folder)
    return _topology(module, where, attribute or ATTRIBUTE)


def _from_module(name: str, folder: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise SettingsError(
            f"{name!r} is no topology; name a module such as topologies.flights, or a file"
        )
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _stopped(error) from error
        raise SettingsError(
            f"no module {error.name!r}; searched {folder} and the installed packages "
            f"for {name!r}: start where the folder of your topologies lies"
        ) from error
    except StreamflowError:
        raise
    except Exception as error:
        raise _stopped(error) from error


def _from_file(path: Path) -> ModuleType:
    """Import a file as a script would be: what lies beside it can be imported too."""
    if not path.is_file():
        raise SettingsError(f"no file {str(path)!r} in {Path.cwd()}")
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(1, str(path.parent))
    name = f"topology_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{str(path)!r} is no Python file; name a .py file or a module")
    module = importlib.util.module_from_spec(spec)
    # pydantic looks up annotations in the module of the model, by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except StreamflowError:
        raise
    except Exception as error:
        raise _stopped(error) from error
    return module


def _topology(module: ModuleType, where: str, attribute: str) -> Topology:
    found = getattr(module, attribute, None)
    if isinstance(found, Topology):
        return found
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Topology))
    instead = f"its topologies are {names}" if names else "it has no topology at all"
    if not hasattr(module, attribute):
        raise SettingsError(f"{where} has no {attribute!r}; {instead}")
    kind = type(found).__name__
    raise SettingsError(f"{where}:{attribute} is of type {kind}, not Topology; {instead}")


def _stopped(error: Exception) -> TopologyError:
    """Where importing stopped: the innermost line that is neither Python's nor a package's."""
    if isinstance(error, SyntaxError):
        return TopologyError(
            f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
        )
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _own(frame.filename)]
    place = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    words = " ".join(str(error).split())
    return TopologyError(f"{place}{type(error).__name__}: {words}")


def _own(filename: str) -> bool:
    path = Path(filename)
    if not path.is_file() or "site-packages" in path.parts:
        return False
    libraries = (Path(__file__).parents[1], Path(os.__file__).parent)
    return not any(path.is_relative_to(folder) for folder in libraries)
