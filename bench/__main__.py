"""``python -m bench [NAME...]``: run the measurements and print one line for each."""

import importlib
import pkgutil
import sys

import bench


def main() -> None:
    names = sys.argv[1:] or [
        module.name.removeprefix("bench_")
        for module in pkgutil.iter_modules(bench.__path__)
        if module.name.startswith("bench_")
    ]
    for name in names:
        print(f"# {name}", flush=True)
        importlib.import_module(f"bench.bench_{name}").main()


if __name__ == "__main__":
    main()
