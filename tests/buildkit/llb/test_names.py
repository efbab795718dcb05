from __future__ import annotations

from buildkit_builder.buildkit import llb


def test_the_public_names_are_these() -> None:
    """Adding or losing a name is a decision, not an accident."""
    assert [
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
    ] == llb.__all__
    assert all(
        getattr(llb, name).__module__.startswith("buildkit_builder.buildkit.llb")
        for name in ("State", "marshal", "copy")
    )
