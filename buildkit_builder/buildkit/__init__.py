"""A BuildKit client for Python.

Describe an image with the verbs of a Dockerfile, build it, and read what was built:

```python
from buildkit_builder import buildkit as bk

app = bk.image("python:3.12-slim").dir("/app").copy(bk.local("."), "/app").shell("pip install .")
result = bk.build(app, push="registry.example/app:1")
print(result.digest, result.platforms, result.seconds)
```

States begin with `image`, `scratch`, `local`, `git` or `http`; `State` has the verbs. `dockerfile` takes a Dockerfile
instead. `cache`, `secret`, `ssh`, `bind` and `tmpfs` are what a command may mount. `build` finds BuildKit, shows
progress on stderr and uses the credentials of `docker login`; each can be replaced by an argument. Whatever waits for
the daemon has a twin for coroutines whose name begins with `a`: `abuild`, `Result.aread`.

Errors are those of `buildkit_builder.errors`, below `BuildKitError`. Arguments of a wrong type raise `TypeError`, and
those that make no sense `ValueError`. Below the front door are `llb` for graphs as values, `build` for one build,
`session` for what the daemon may ask of us, `find` and `connect` for reaching it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_builder.buildkit.front import (
        Bind,
        BuildKitError,
        Cache,
        Compression,
        Dockerfile,
        FileInfo,
        LogEvent,
        Mount,
        Push,
        Result,
        Secret,
        Ssh,
        State,
        StatusEvent,
        StatusUpdate,
        Tmpfs,
        VertexEvent,
        WarningEvent,
        abuild,
        bind,
        build,
        cache,
        dockerfile,
        git,
        http,
        image,
        local,
        scratch,
        secret,
        ssh,
        tmpfs,
    )

__all__ = [
    "Bind",
    "BuildKitError",
    "Cache",
    "Compression",
    "Dockerfile",
    "FileInfo",
    "LogEvent",
    "Mount",
    "Push",
    "Result",
    "Secret",
    "Ssh",
    "State",
    "StatusEvent",
    "StatusUpdate",
    "Tmpfs",
    "VertexEvent",
    "WarningEvent",
    "abuild",
    "bind",
    "build",
    "cache",
    "dockerfile",
    "git",
    "http",
    "image",
    "local",
    "scratch",
    "secret",
    "ssh",
    "tmpfs",
]


class _Room(ModuleType):
    """Loads the front door when it is first used: every other module of this package is imported through here.

    The function `build` and the sub-package `build` share a name. Importing the sub-package binds it to that name,
    which is refused here; `from buildkit_builder.buildkit.build import …` works nevertheless.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{self.__name__}.front"), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(__all__)


sys.modules[__name__].__class__ = _Room
