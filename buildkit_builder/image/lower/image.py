"""Steps to LLB.

Lowering is a generator: what only the daemon knows (the config of an image, what lines of a Dockerfile make) is
asked for by yielding a question and being sent the answer. So the graph can follow from results
while the code stays pure, and a test, or a dry run, may answer from a dictionary.

```python
lowering = lower(plan, platform, environment)
question = next(lowering)
question = lowering.send(answer)      # … until StopIteration, whose value is the `Lowered`
```

What each step becomes follows the Dockerfile instruction that Flyte's own builder writes for it; protocol: buildkit
`frontend/dockerfile/dockerfile2llb`. Which steps it sees, `lower.branches` says.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.image_config import DEFAULT_PATH
from buildkit_builder.image.lower import commands, copies, packages, python
from buildkit_builder.image.lower.branches import Branches
from buildkit_builder.image.lower.dockerfile_words import expand_value
from buildkit_builder.image.lower.draft import Draft, Host
from buildkit_builder.image.lower.questions import BuildLines, Environment, Lowered, Question, ResolveImage
from buildkit_builder.image.lower.steering import check_of
from buildkit_builder.image.plan import (
    Config,
    CopyImage,
    CopyLocal,
    DockerfileLines,
    InstallPackages,
    Plan,
    Run,
    SetEnv,
    SetLabels,
    SetUser,
    Step,
    Workdir,
    WriteFile,
)


def lower(
    plan: Plan,
    platform: llb.Platform,
    environment: Environment,
    waiting: frozenset[int] = frozenset(),
    ordered: frozenset[int] = frozenset(),
) -> Generator[Question, Any, Lowered]:
    """Lowers a plan for one platform; see the module for how it is driven.

    Args:
        plan: The steps.
        platform: What to build for.
        environment: What surrounds the build.
        waiting: The numbers of the steps that were tried ahead and need more than wheels.
        ordered: The numbers of the steps that the steps before them would have steered.

    Raises:
        ImageError: A value of a step makes no sense (an unfinished quote, say); names the step.
        CapabilityError: A step runs programs of the platform, and the daemon cannot.
    """
    base = yield ResolveImage(plan.base, platform)
    image = Lowered(state=base.state(platform), config=_complete(base.config))
    host = yield from _host(plan, image, environment)
    if base.config.on_build:
        # They are lines of a Dockerfile, which its frontend carries out at `FROM`.
        image = yield BuildLines(image, (), f"ONBUILD of {plan.base}")
    draft = Draft(
        plan=plan,
        platform=platform,
        environment=environment,
        config=image.config,
        branches=Branches(image.state, side_by_side=environment.side_by_side),
        host=host,
        waiting=waiting,
        ordered=ordered,
    )
    for number, step in enumerate(plan.steps):
        yield from _step(draft, number, step)
    checks = {number: check_of(draft, step) for number, step in draft.ahead.items()}
    return replace(draft.image, checks={number: state for number, state in checks.items() if state is not None})


def _complete(config: llb.ImageConfig) -> llb.ImageConfig:
    """A base without a PATH gets the one that BuildKit gives its steps."""
    return config if "PATH" in config.env else config.with_env("PATH", DEFAULT_PATH)


def _host(plan: Plan, image: Lowered, environment: Environment) -> Generator[Question, Any, Host | None]:
    """The base for the machine's own platform, where it can work for the image's: if both are alike."""
    if environment.native is None:
        return None
    found = yield ResolveImage(plan.base, environment.native, optional=True)
    if found is None or dict(_complete(found.config).env) != dict(image.config.env):
        return None
    return Host(platform=environment.native, root=found.state(environment.native))


def _step(draft: Draft, number: int, step: Step) -> Generator[Question, Any, None]:
    if isinstance(step, Run):
        _run(draft, number, step)
    elif isinstance(step, InstallPackages):
        packages.install(draft, number, step)
    elif isinstance(step, CopyLocal):
        copies.copy_local(draft, step)
    elif isinstance(step, CopyImage):
        yield from copies.copy_image(draft, step)
    elif isinstance(step, WriteFile):
        copies.write_file(draft, step)
    elif isinstance(step, Workdir):
        copies.workdir(draft, step)
    elif isinstance(step, DockerfileLines):
        yield from _lines(draft, step)
    else:
        _configure(draft, step)


def _run(draft: Draft, number: int, step: Run) -> None:
    if step.scope == "environment":
        python.make_environment(draft, number, step)
    elif step.scope == "python":
        python.install(draft, number, step)
    else:
        commands.command(draft, step)


def _lines(draft: Draft, step: DockerfileLines) -> Generator[Question, Any, None]:
    if any(line.lstrip().upper().startswith("RUN") for line in step.lines):
        draft.emulated(step.name)
    made = yield BuildLines(draft.image, step.lines, draft.named(step.name))
    draft.change(step.name, lambda _: made.state)
    draft.branches.begin_anew()
    draft.is_plain = False
    draft.config = made.config


def _configure(draft: Draft, step: Config) -> None:
    config = draft.config
    if isinstance(step, SetEnv):
        before = dict(config.env)
        for key, text in step.variables:
            config = config.with_env(key, draft.expanded(f"with_env_vars {key}", expand_value, text, before))
    elif isinstance(step, SetLabels):
        for key, value in step.labels:
            config = config.with_label(key, value)
    elif isinstance(step, SetUser):
        config = config.with_user(step.user)
    else:
        config = config.with_shell(step.shell)
    draft.config = config
