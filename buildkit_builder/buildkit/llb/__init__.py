"""Build graphs as values (LLB), and the bytes that BuildKit solves.

A state is a tree of files. It comes from a source (`image`, `local`, `git`, `http`, `oci_layout`, `scratch`), and
verbs lead from it to the next: `State.run`, `State.file`, `merge`, `diff`. `marshal` writes a graph down, `dump` makes
that readable. Nothing here talks to anything; `buildkit_builder.buildkit.api` does.

```python
base = llb.image("python:3.12-slim")
tool = base.run(["pip", "install", "ruff"], mounts=[llb.Cache("/root/.cache/pip", "pip")]).root
done = tool.file(llb.mkfile("/etc/motd", b"hello"))
definition = llb.marshal(done, platform=llb.Platform(architecture="arm64"))
```

What people write (names of images, platforms, base images' configs) fails with an `ImageError` if it is malformed;
arguments of a wrong type fail with `TypeError`, and those that make no sense, or contradict each other, with
`ValueError`.
"""

from __future__ import annotations

from buildkit_builder.buildkit.llb.capabilities import FIRST_RELEASE, Capabilities
from buildkit_builder.buildkit.llb.definition import Definition
from buildkit_builder.buildkit.llb.dump import dump, parse
from buildkit_builder.buildkit.llb.execution import Bind, Cache, Mount, ProxyEnv, SecretEnv, SecretFile, Ssh, Tmpfs
from buildkit_builder.buildkit.llb.file_actions import FileAction, copy, mkdir, mkfile, rm, symlink
from buildkit_builder.buildkit.llb.image_config import ImageConfig
from buildkit_builder.buildkit.llb.marshal import marshal
from buildkit_builder.buildkit.llb.merge import diff, merge
from buildkit_builder.buildkit.llb.owner import Owner
from buildkit_builder.buildkit.llb.platforms import Platform
from buildkit_builder.buildkit.llb.ready import from_definition
from buildkit_builder.buildkit.llb.reference import ImageReference
from buildkit_builder.buildkit.llb.role import Role
from buildkit_builder.buildkit.llb.source import git, http, image, local, oci_layout
from buildkit_builder.buildkit.llb.state import Exec, State, scratch

__all__ = [
    "FIRST_RELEASE",
    "Bind",
    "Cache",
    "Capabilities",
    "Definition",
    "Exec",
    "FileAction",
    "ImageConfig",
    "ImageReference",
    "Mount",
    "Owner",
    "Platform",
    "ProxyEnv",
    "Role",
    "SecretEnv",
    "SecretFile",
    "Ssh",
    "State",
    "Tmpfs",
    "copy",
    "diff",
    "dump",
    "from_definition",
    "git",
    "http",
    "image",
    "local",
    "marshal",
    "merge",
    "mkdir",
    "mkfile",
    "oci_layout",
    "parse",
    "rm",
    "scratch",
    "symlink",
]
