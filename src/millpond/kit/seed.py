"""Python's random numbers, the same in each run of a task: seeded when they are first wanted."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _SeedAtImport:
    """Finds ``random`` in place of all others, once, and gives it its seed as it is loaded."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != "random":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        load, seed = spec.loader.exec_module, self._seed  # type: ignore[union-attr]

        def exec_module(module: "Any") -> None:
            load(module)
            if hasattr(module, "seed"):
                module.seed(seed)

        spec.loader.exec_module = exec_module  # type: ignore[union-attr, method-assign]
        return spec


def set_seed(seed: int) -> None:
    """Seed Python's generator now, or when it is loaded: most tasks never do."""
    for finder in [each for each in sys.meta_path if isinstance(each, _SeedAtImport)]:
        sys.meta_path.remove(finder)
    if "random" in sys.modules:
        sys.modules["random"].seed(seed)
    else:
        sys.meta_path.insert(0, _SeedAtImport(seed))
