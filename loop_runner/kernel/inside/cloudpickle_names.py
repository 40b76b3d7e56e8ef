"""The functions of cloudpickle that older blobs name. Runs inside the kernel process.

Before ``by_value``, cloudpickle 3.1 wrote functions and classes, and committed blobs name its functions.
Those functions are here under the same names, so such blobs load without that package. The arguments are
those that version 3.1 writes.
"""

from __future__ import annotations

import dataclasses
import importlib
import types

from . import by_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def _skeleton_class(
    metaclass: Any, name: str, bases: Any, namespace: dict[str, Any], _id: object, _more: object
) -> type:
    return by_value.make_class(metaclass, name, bases, namespace)


def _set_class_state(cls: Any, state: tuple[Mapping[str, Any], object]) -> None:
    by_value.set_attributes(cls, state[0])


def _skeleton_enum(bases: Any, name: str, qualname: str, members: Any, module: str, *_ids: object) -> type:
    return by_value.make_enum(bases, name, qualname, members, module)


def _typevar(name: str, bound: object, constraints: Any, *more: Any) -> Any:
    return by_value.make_typevar(name, bound, constraints, more[0], more[1])


def _module(name: str, held: Mapping[str, object]) -> types.ModuleType:
    module = types.ModuleType(name)
    by_value.fill_module(module, held)
    return module


def _function(code: Any, namespace: dict[str, Any], name: str, _defaults: object, closure: Any) -> Any:
    return by_value.make_function(code, namespace, name, closure)


def _set_function_state(func: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    attributes, slots = state
    for cell, filled in zip(
        getattr(func, "__closure__", None) or (), slots["__closure__"] or (), strict=False
    ):
        try:
            cell.cell_contents = filled.cell_contents
        except ValueError:  # an empty cell
            continue
    names = ("__defaults__", "__kwdefaults__", "", "__annotations__", "__doc__", "__module__", "__qualname__")
    values = [attributes if not name else slots.get(name) for name in names]
    by_value.set_function_state(func, (*values, slots["__globals__"]))


class _Params:
    """A dataclass's parameters, as a plain object: each version of Python has other slots for them."""

    def __setstate__(self, state: tuple[object, Mapping[str, object]]) -> None:
        self.__dict__.update(state[1])

    def __reduce__(self) -> tuple[object, ...]:
        return by_value.make_params, (dict(sorted(self.__dict__.items())),)


def _cell(*contents: object) -> types.CellType:
    return types.CellType(*contents)


def _type(name: str) -> object:
    return by_value.unversioned_code if name == "CodeType" else by_value.type_called(name)


_REFERENCES: dict[str, Any] = {
    "_make_skeleton_class": _skeleton_class,
    "_class_setstate": _set_class_state,
    "_make_skeleton_enum": _skeleton_enum,
    "_make_typevar": _typevar,
    "_make_function": _function,
    "_function_setstate": _set_function_state,
    "_make_empty_cell": _cell,
    "_make_cell": _cell,
    "_builtin_type": _type,
    "_make_dict_keys": lambda items, *_: by_value.view_of("keys", dict.fromkeys(items)),
    "_make_dict_values": lambda items, *_: by_value.view_of("values", dict(enumerate(items))),
    "_make_dict_items": lambda items, *_: by_value.view_of("items", dict(items)),
    "_get_dataclass_field_type_sentinel": by_value.field_kind,
    "_file_reconstructor": lambda file: file,
    "_DataclassParams": _Params,
    "_replace": getattr(dataclasses, "_replace", by_value.Missing(by_value.MissingCode("_replace", 0))),
    "subimport": importlib.import_module,
    "dynamic_subimport": _module,
}


def find(name: str) -> Any:
    """The name that cloudpickle has for ``name``; None if it does not name it."""
    return _REFERENCES.get(name)
