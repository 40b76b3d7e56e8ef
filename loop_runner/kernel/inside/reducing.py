"""The input of pickle for code, functions and classes that exist only in the model's namespace.

The counterpart of ``by_value``, whose functions rebuild them. The bytes are the project's own, so they
are the same with every version of cloudpickle.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import importlib
import importlib.util
import pickle
import sys
import types
import typing
import weakref

from .by_value import (
    BYTECODE,
    _annotations,
    _class_dict,
    _DataclassParams,
    field_kind,
    fill_cell,
    fill_module,
    make_cell,
    make_class,
    make_code,
    make_enum,
    make_field,
    make_function,
    make_named_tuple,
    make_params,
    make_typevar,
    set_attributes,
    set_function_state,
    type_called,
    view_of,
)
from .touched import words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


_HEAP_TYPE = 1 << 9


_PLAIN = frozenset({str, bytes, int, float, complex, bool, tuple, frozenset, type(None)})


# Made anew with each class, or by its metaclass.
_AUTOMATIC = frozenset(
    {"__dict__", "__weakref__", "__slotnames__", "__slots__", "__module__", "__qualname__", "_abc_impl"}
)


_OF_ANNOTATIONS = frozenset({"__annotate_func__", "__annotations_cache__", "__annotate__"})


_OF_ENUMS = frozenset(
    {
        *("_member_names_", "_member_map_", "_member_type_", "_value2member_map_", "_generate_next_value_"),
        *("_new_member_", "_use_args_", "_value_repr_", "_unhashable_values_", "_unhashable_values_map_"),
        *("_hashable_values_", "_flag_mask_", "_singles_mask_", "_all_bits_", "_boundary_", "_inverted_"),
        *("__new_member__", "__new__"),
    }
)


def is_by_reference(value: Any) -> bool:
    """Whether importing its module and looking up its name finds the same function or class."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module_name = getattr(value, "__module__", None)
    if type(name) is not str:
        return False
    if type(module_name) is str:
        return module_name != "__main__" and _at(sys.modules.get(module_name), name) is value
    modules = [module for key, module in list(sys.modules.items()) if key not in ("__main__", "__mp_main__")]
    return any(_at(module, name) is value for module in modules if type(module) is types.ModuleType)


def _at(module: object, path: str) -> object:
    """The object at ``path`` in a module; None if there is none."""
    target = module
    for name in path.split("."):
        try:
            target = getattr(target, name)
        except Exception:  # noqa: BLE001 - a module may have a ``__getattr__`` of any kind
            return None
    return target


def reduce_code(code: types.CodeType) -> tuple[object, ...]:
    """Code with all of its metadata; its tuples are copies, because loading shares none."""
    fields = (
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_nlocals),
        *(code.co_stacksize, code.co_flags, code.co_code, code.co_consts, code.co_names, code.co_varnames),
        *(code.co_filename, code.co_name, code.co_qualname, code.co_firstlineno, code.co_linetable),
        *(code.co_exceptiontable, code.co_freevars, code.co_cellvars),
    )
    return make_code, (BYTECODE, *map(_own, fields))


def _own(value: object) -> object:
    return tuple([_own(item) for item in value]) if type(value) is tuple else value


def reduce_class(cls: Any) -> Any:
    """A class: by reference if its name leads to it, else with its bases and attributes."""
    if cls in (type(None), type(...), type(NotImplemented)):
        return type, ({type(None): None, type(...): ...}.get(cls, NotImplemented),)
    if is_by_reference(cls):
        return NotImplemented
    if cls in _NAMES_OF_TYPES:
        return type_called, (_NAMES_OF_TYPES[cls],)
    if not cls.__flags__ & _HEAP_TYPE:
        raise pickle.PicklingError(f"the built-in type {cls.__name__} cannot be imported by its name")
    if enum.Enum in cls.__mro__:
        return _reduce_enum(cls)
    own = dict(_class_dict(cls))
    if cls.__bases__ == (tuple,) and {"_fields", "_field_defaults", "_make"} <= own.keys():
        return _reduce_named_tuple(cls, own)
    namespace = {name: own[name] for name in ("__module__", "__slots__") if name in own}
    namespace["__qualname__"] = cls.__qualname__
    if isinstance(own.get("__dict__"), property):
        namespace["__dict__"] = own["__dict__"]
    bases = own.get("__orig_bases__", cls.__bases__)
    return (
        make_class,
        (type(cls), cls.__name__, bases, namespace),
        _attributes(cls),
        None,
        None,
        set_attributes,
    )


def _reduce_enum(cls: Any) -> tuple[object, ...]:
    members = {name: member.value for name, member in cls.__members__.items()}
    attributes = _attributes(cls)
    for name in (*members, *_OF_ENUMS):
        attributes.pop(name, None)
    args = (cls.__bases__, cls.__name__, cls.__qualname__, members, cls.__module__)
    return make_enum, args, attributes, None, None, set_attributes


def _reduce_named_tuple(cls: Any, own: Mapping[str, object]) -> tuple[object, ...]:
    fields: Any = own["_fields"]
    usual = _class_dict(collections.namedtuple("usual", fields)).keys()  # noqa: PYI024
    attributes = {name: value for name, value in _attributes(cls).items() if name not in usual}
    if own.get("__doc__") is not None:
        attributes["__doc__"] = own["__doc__"]
    args = (cls.__name__, own["_fields"], own["_field_defaults"], cls.__module__, cls.__qualname__)
    return make_named_tuple, args, attributes, None, None, set_attributes


def _attributes(cls: Any) -> dict[str, object]:
    """A class's own definitions, sorted by name, without those that every class has."""
    inherited: dict[str, object] = {}
    for base in reversed(cls.__bases__):
        inherited.update(_class_dict(base))
    attributes = {
        name: value
        for name, value in sorted(_class_dict(cls).items())
        if name not in _AUTOMATIC and name not in _OF_ANNOTATIONS and not _is_slot(value, cls)
        # Whether equal plain values are one object is chance.
        if type(value) in _PLAIN or value is not inherited.get(name, cls)
    }
    if _OF_ANNOTATIONS & _class_dict(cls).keys():
        attributes["__annotations__"] = _annotations(cls)
    if "__dataclass_params__" in attributes:
        attributes.pop("__replace__", None)  # since Python 3.13, the same for all of them
    if "_abc_impl" in _class_dict(cls):
        attributes["_abc_impl"] = _registered(cls)
    return attributes


def _is_slot(value: Any, cls: object) -> bool:
    kinds = (types.MemberDescriptorType, types.GetSetDescriptorType)
    return isinstance(value, kinds) and value.__objclass__ is cls


def _registered(cls: Any) -> list[object]:
    """The classes registered with an abstract one, in a stable order."""
    import abc

    references = abc._get_dump(cls)[0]  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way to them
    classes = [registered for reference in references if (registered := reference()) is not None]
    return sorted(classes, key=lambda registered: (str(registered.__module__), str(registered.__qualname__)))


def reduce_function(func: types.FunctionType, private: dict[str, Any] | None) -> tuple[object, ...]:
    """A function. ``private``: an empty dict for globals that belong to no module, else None."""
    state = (
        func.__defaults__,
        func.__kwdefaults__,
        func.__dict__ or None,
        _annotations(func) or None,
        func.__doc__,
        func.__module__,
        func.__qualname__,
    )
    args = (func.__code__, func.__globals__ if private is None else private, func.__name__, func.__closure__)
    if private is None:
        return make_function, args, state, None, None, set_function_state
    names = sorted(words_of(func.__code__) & func.__globals__.keys() - {"__builtins__"})
    used = {name: func.__globals__[name] for name in ("__name__", *names) if name in func.__globals__}
    return make_function, args, (*state, used), None, None, set_function_state


def reduce_cell(cell: types.CellType) -> tuple[object, ...]:
    """The cell first and its contents later: a function may refer to itself through it."""
    try:
        return make_cell, (), (cell.cell_contents,), None, None, fill_cell
    except ValueError:
        return make_cell, ()


def reduce_module(module: types.ModuleType) -> tuple[object, ...]:
    """A module: by its name if it was imported, else with its contents."""
    if sys.modules.get(module.__name__) is module:
        return importlib.import_module, (module.__name__,)
    held = {name: value for name, value in module.__dict__.items() if name != "__builtins__"}
    return types.ModuleType, (module.__name__,), held, None, None, fill_module


def _reduce_typevar(variable: typing.TypeVar) -> tuple[Any, ...]:
    module = sys.modules.get(variable.__module__)
    if variable.__module__ != "__main__" and _at(module, variable.__name__) is variable:
        return getattr, (module, variable.__name__)
    return make_typevar, (
        variable.__name__,
        variable.__bound__,
        variable.__constraints__,
        variable.__covariant__,
        variable.__contravariant__,
    )


def _reduce_property(value: property) -> tuple[object, ...]:
    return property, (value.fget, value.fset, value.fdel, value.__doc__)


def _reduce_wrapped(value: Any) -> tuple[object, ...]:
    return type(value), (value.__func__,)


def _slots_of(value: Any) -> dict[str, object]:
    names = sorted({*getattr(type(value), "__slots__", ()), *getattr(value, "__dict__", ())})
    return {name: getattr(value, name) for name in names}


REDUCERS: dict[type, Callable[[Any], Any]] = {
    classmethod: _reduce_wrapped,
    staticmethod: _reduce_wrapped,
    property: _reduce_property,
    typing.TypeVar: _reduce_typevar,
    memoryview: lambda view: (memoryview, (view.tobytes(),)),
    types.MethodType: lambda method: (types.MethodType, (method.__func__, method.__self__)),
    types.MappingProxyType: lambda proxy: (types.MappingProxyType, (dict(proxy),)),
    types.GetSetDescriptorType: lambda value: (getattr, (value.__objclass__, value.__name__)),
    weakref.WeakSet: lambda items: (weakref.WeakSet, (list(items),)),
    type({}.keys()): lambda keys: (view_of, ("keys", dict.fromkeys(keys))),
    type({}.values()): lambda values: (view_of, ("values", dict(enumerate(values)))),
    type({}.items()): lambda items: (view_of, ("items", dict(items))),
    type(collections.OrderedDict().keys()): lambda keys: (view_of, ("keys", dict.fromkeys(keys))),
    type(collections.OrderedDict().values()): lambda values: (view_of, ("values", dict(enumerate(values)))),
    type(collections.OrderedDict().items()): lambda items: (view_of, ("items", dict(items))),
    dataclasses.Field: lambda field: (make_field, (_slots_of(field),)),
    _DataclassParams: lambda params: (make_params, (_slots_of(params),)),
    type(dataclasses._FIELD): lambda kind: (field_kind, (kind.name,)),  # type: ignore[attr-defined]  # noqa: SLF001
}


_NAMES_OF_TYPES = {
    value: name for name, value in reversed(vars(types).items()) if isinstance(value, type) and name != "type"
}
