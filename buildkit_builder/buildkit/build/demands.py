"""What a build asks of a daemon that the daemon would leave out without a word, or refuse when all is built."""

from __future__ import annotations

from buildkit_builder.buildkit.api.gateway import CAP_META_RESOLVER, Gateway
from buildkit_builder.buildkit.api.results import Result
from buildkit_builder.buildkit.build.exporters import LoadIntoEngine, OciArchive, Push
from buildkit_builder.buildkit.build.request import BuildRequest
from buildkit_builder.errors import ConfigError

_ATTEST = "attest:"
# How options of a build begin that daemons read themselves, and what daemons that do are capable of.
_READ_BY_DAEMON = {
    _ATTEST: ("exporter.image.attestations", "attest how an image was made"),
    "build-arg:SOURCE_DATE_EPOCH": ("exporter.sourcedateepoch", "set the time of an image"),
}
_ANNOTATED = (Push, LoadIntoEngine, OciArchive)
_OF_INDEX = ("index", "index-descriptor")


async def require_capabilities(request: BuildRequest, gateway: Gateway) -> None:
    """Makes sure, before anything is built, that the daemon can do what is asked of it.

    Raises:
        CapabilityError: It lacks something.
    """
    purposes = {name: "" for exporter in request.exporters for name in exporter.capabilities}
    if len(request.exporters) > 1:
        purposes["exporter.multiple"] = "export one build in several ways"
    if request.source_policy is not None:
        purposes["source.policy"] = "take what a Dockerfile names from `registry_mirrors`"
    for begins, (capability, purpose) in _READ_BY_DAEMON.items():
        if any(key.startswith(begins) for key in request.frontend_attributes):
            purposes[capability] = purpose
    rewrites = any(isinstance(exporter, Push) and exporter.rewrite_timestamps for exporter in request.exporters)
    if purposes or rewrites:
        pong = await gateway.ping()
        for name, purpose in purposes.items():
            pong.llb.require(name, purpose)
        if rewrites:
            # Of the same release as the attribute, which older ones ignore.
            pong.frontend.require(CAP_META_RESOLVER, "set the times of an image's files")


def require_index(request: BuildRequest, result: Result) -> None:
    """Makes sure, before anything is exported, that annotations of an index have one: of several images, or attested.

    Raises:
        ConfigError: They have not.
    """
    exporters = [exporter for exporter in request.exporters if isinstance(exporter, _ANNOTATED)]
    lost = [annotation for found in exporters for annotation in found.annotations if annotation.level in _OF_INDEX]
    is_attested = any(key.startswith(_ATTEST) for key in request.frontend_attributes)
    if lost and not result.refs and not is_attested:
        raise ConfigError(
            f"The annotation `{lost[0].level}:{lost[0].key}` has no place: an image for one platform has no index. "
            "Take it out of `annotations`, leave its level out, or build for several platforms."
        )
