"""Registry mirrors as source policy: the daemon rewrites where an image comes from, wherever it is named.

Protocol: buildkit `sourcepolicy`; daemons since 0.11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from buildkit_builder.wire import sourcepolicy_pb2


def mirrors(registries: Mapping[str, str]) -> sourcepolicy_pb2.Policy | None:
    """Rules that take images of one registry from another; `None` where there are none.

    A rule that changes a source has the daemon begin anew with all rules, so the more particular ones come first.

    Args:
        registries: By registry, or registry and path (`docker.io`, `ghcr.io/astral-sh`), what stands there instead.
    """
    rules = [
        sourcepolicy_pb2.Rule(
            action=sourcepolicy_pb2.CONVERT,
            selector=sourcepolicy_pb2.Selector(
                identifier=f"^docker-image://{re.escape(source.strip('/'))}/(.*)$", match_type=sourcepolicy_pb2.REGEX
            ),
            updates=sourcepolicy_pb2.Update(identifier=f"docker-image://{mirror.strip('/')}/${{1}}"),
        )
        for source, mirror in sorted(registries.items(), key=lambda item: -item[0].strip("/").count("/"))
    ]
    return sourcepolicy_pb2.Policy(version=1, rules=rules) if rules else None
