"""Registry mirrors: what is asked instead of the registry that an image's name begins with.

Names are rewritten here, in graphs as they are marshalled and where images are looked up, so that a daemon of any age
hears of the mirror alone, and reports vertices by the digests that they were sent with. What only the daemon itself
names, as its own Dockerfile frontend does, it has to rewrite: by a source policy (protocol: buildkit `sourcepolicy`;
since 0.11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from buildkit_builder.buildkit.llb.definition import IMAGE_SCHEME
from buildkit_builder.buildkit.session.registries import HUB_HOSTS
from buildkit_builder.buildkit.wire import sourcepolicy_pb2
from buildkit_builder.errors import ConfigError

_HUB = "docker.io"


@dataclass(frozen=True)
class Mirrors:
    """The mirrors of one build.

    Attributes:
        registries: By registry, or registry and path (`docker.io`, `ghcr.io/astral-sh`), what stands there instead.
    """

    registries: tuple[tuple[str, str], ...] = ()
    _rules: tuple[_Rule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rules = (_Rule.of(registry, mirror) for registry, mirror in self.registries)
        # The more particular ones come first.
        ordered = sorted(rules, key=lambda rule: -rule.pattern.pattern.count("/"))
        object.__setattr__(self, "_rules", tuple(ordered))

    @classmethod
    def of(cls, registries: Mapping[str, str]) -> Mirrors:
        """The mirrors of the settings."""
        return cls(tuple(registries.items()))

    def rewrite(self, reference: str) -> str:
        """The name of an image at its mirror; the same name where there is none.

        A mirror may have a mirror itself.

        Args:
            reference: In its full form, with registry and path.
        """
        left = list(self._rules)
        while rule := next((rule for rule in left if rule.pattern.fullmatch(reference)), None):
            reference = rule.pattern.sub(rf"{rule.mirror}\1", reference)
            left.remove(rule)
        return reference

    def policy(self) -> sourcepolicy_pb2.Policy | None:
        """The same rules for a daemon, which begins anew with all of them when one has fitted; `None` for none.

        Raises:
            ConfigError: It would never end.
        """
        for rule in self._rules:
            if self._fits(self.rewrite(f"{rule.mirror}/any")):
                raise ConfigError(
                    f"`registry_mirrors` leads from the mirror {rule.mirror} to itself, and a daemon that follows it "
                    "through a Dockerfile would never end: name a mirror that does not begin with what it stands for."
                )
        return sourcepolicy_pb2.Policy(version=1, rules=map(_Rule.to_wire, self._rules)) if self._rules else None

    def _fits(self, reference: str) -> bool:
        return any(rule.pattern.fullmatch(reference) for rule in self._rules)


NO_MIRRORS = Mirrors()


@dataclass(frozen=True, slots=True)
class _Rule:
    """One mirror: what a name is that begins with the registry, with all that follows it as a group."""

    pattern: re.Pattern[str]
    mirror: str

    @classmethod
    def of(cls, registry: str, mirror: str) -> _Rule:
        domain, slash, path = registry.strip("/").partition("/")
        source = f"{_HUB if domain in HUB_HOSTS else domain}{slash}{path}"
        # A path may be a repository's, which a tag or a digest follows; after a host that would be its port.
        follows = "[/:@]" if slash else "/"
        return cls(re.compile(rf"{re.escape(source)}({follows}.*)"), mirror.strip("/"))

    def to_wire(self) -> sourcepolicy_pb2.Rule:
        return sourcepolicy_pb2.Rule(
            action=sourcepolicy_pb2.CONVERT,
            selector=sourcepolicy_pb2.Selector(
                identifier=f"^{IMAGE_SCHEME}{self.pattern.pattern}$", match_type=sourcepolicy_pb2.REGEX
            ),
            updates=sourcepolicy_pb2.Update(identifier=f"{IMAGE_SCHEME}{self.mirror}${{1}}"),
        )
