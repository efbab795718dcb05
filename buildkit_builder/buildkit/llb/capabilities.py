"""What a daemon says it can do, and how to say what it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType

from buildkit_builder.buildkit.llb.arguments import check, checked
from buildkit_builder.errors import CapabilityError

# First minor release of BuildKit whose last patch declares the id (protocol: `solver/pb/caps.go` and
# `frontend/gateway/pb/caps.go` of the tags). 0.8 stands for that and everything before.
_FIRST_RELEASE = {
    "0.8": """
        constraints platform meta.ignorecache meta.description meta.exportcache
        source.image source.image.resolvemode source.local source.local.unique source.local.sessionid
        source.local.includepatterns source.local.followpaths source.local.excludepatterns source.local.sharedkeyhint
        source.git source.git.keepgitdir source.git.fullurl source.git.httpauth source.git.knownsshhosts
        source.git.mountsshsock source.http source.http.checksum source.http.perm soruce.http.uidgid
        source.buildop.llbfilename exec.meta.base exec.meta.proxyenv exec.meta.network exec.meta.security
        exec.meta.security.devices.v1 exec.meta.setsdefaultpath exec.mount.bind exec.mount.bind.readwrite-nooutput
        exec.mount.cache exec.mount.cache.sharing exec.mount.selector exec.mount.tmpfs exec.mount.secret
        exec.mount.ssh exec.cgroup file.base file.rm.wildcard
        solve.base solve.inlinereturn resolveimage resolveimage.resolvemode readfile readdir statfile return returnmap
        importcaches proto.refarray reference.output frontend.inputs frontend.caps gateway.solve.metadata
        gateway.solve.evaluate gateway.exec
    """,
    "0.9": "cache.gha file.copy.includeexcludepatterns source.git.subdir source.local.differ",
    "0.10": """
        mergeop diffop exec.meta.cgroup.parent exec.meta.ulimit exec.mount.tmpfs.size exec.secretenv
        file.rm.nofollowsymlink gateway.exec.extrahosts gateway.exec.signals gateway.warnings
        exporter.compression.zstd exporter.compression.estargz frontend.inputs.named
    """,
    "0.11": """
        cache.s3 cache.azblob exporter.image.annotations exporter.image.attestations exporter.sourcedateepoch
        source.image.layerlimit source.ocilayout source.policy gateway.evaluate reference.attestations
    """,
    "0.12": "gateway.exec.secretenv",
    "0.13": "exec.mount.cache.content exporter.multiple source.metaresolver",
    "0.14": "file.copy.alwaysreplaceexistingdestpaths",
    "0.17": "exec.validexitcode gc.freespacefilter file.copy.modestring",
    "0.19": "file.symlink.create",
    "0.20": "exec.meta.cdi history.filter",
    "0.21": "exporter.session source.http.auth source.http.header source.local.metadatatransfer",
    "0.22": "source.git.checksum",
    "0.24": "source.git.skipsubmodules",
    "0.25": "source.image.checksum",
    "0.26": "file.copy.requiredpaths source.git.signatureverify source.policy.session",
    "0.27": "gateway.exec.filesystem",
    "0.28": """
        source.http.signatureverify source.imageblob source.metaresolver.image.attestations
        source.metaresolver.http.checksumrequest
    """,
    "0.29": "source.git.mtime",
    "0.30": "source.git.bundle source.git.checkoutbundle source.git.fetchbycommit",
    "0.31": "exec.meta.linux.resources exec.meta.network.proxy passthroughop",
}
FIRST_RELEASE: Mapping[str, str] = MappingProxyType(
    {capability: release for release, listed in _FIRST_RELEASE.items() for capability in listed.split()}
)

# No daemon reports these: answered by an id that came with the same release.
_STAND_INS = {
    "file.copy.modestring": "exec.validexitcode",
    # What has no id in the protocol: a daemon that does not know it refuses it late, or does something else.
    "frontend.inputs.named": "exec.secretenv",
    "exporter.compression.zstd": "exec.secretenv",
    "exporter.compression.estargz": "exec.secretenv",
}

_PURPOSES = {
    "mergeop": "merge layers side by side",
    "diffop": "take the difference of two trees",
    "exec.meta.cgroup.parent": "run a command in a control group of its own",
    "exec.meta.network": "choose the network of a command",
    "exec.meta.proxyenv": "give proxy settings to a command",
    "exec.meta.security": "run a command with all privileges",
    "exec.meta.ulimit": "limit the resources of a command",
    "exec.mount.cache": "keep a directory between builds",
    "exec.mount.secret": "give a secret to a command",
    "exec.mount.ssh": "forward an SSH agent to a command",
    "exec.mount.tmpfs.size": "limit the size of a directory in memory",
    "exec.secretenv": "give a secret to a command as a variable",
    "exec.validexitcode": "let a command end with an exit code of its own",
    "exporter.compression.estargz": "pack layers as estargz",
    "exporter.compression.zstd": "pack layers as zstd",
    "exporter.image.annotations": "annotate an image",
    "file.copy.alwaysreplaceexistingdestpaths": "replace what is in the way of a copy",
    "file.copy.includeexcludepatterns": "copy by include and exclude patterns",
    "file.copy.modestring": "change permissions of a copy as `chmod` does",
    "file.copy.requiredpaths": "check that paths are there when it copies",
    "file.symlink.create": "make a symbolic link",
    "frontend.inputs.named": "carry out lines of a Dockerfile on what other steps have made",
    "source.git": "fetch a git repository",
    "source.git.checksum": "check the commit of a git repository",
    "source.git.subdir": "fetch a directory of a git repository",
    "source.http": "download a file",
    "source.http.auth": "download a file with an authorization header",
    "source.http.header": "choose the headers of a download",
    "source.image.checksum": "check the digest of an image",
    "source.image.layerlimit": "take some of the layers of an image",
    "source.local.metadatatransfer": "list a directory of the client without its content",
    "source.ocilayout": "read an image from an OCI layout of the client",
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a daemon reported that it can do (protocol: `APICap`).

    Attributes:
        enabled: For each id that the daemon reported, whether it is switched on.
        reasons: For ids that are switched off, what the daemon said about it.
    """

    enabled: Mapping[str, bool] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "enabled", MappingProxyType(dict(self.enabled)))
        object.__setattr__(self, "reasons", MappingProxyType(dict(self.reasons)))

    @checked
    def supports(self, capability: str) -> bool:
        """Whether the daemon has it: reported, and switched on."""
        return self.enabled.get(_STAND_INS.get(capability, capability), False)

    @checked
    def missing(self, capabilities: Iterable[str] | Set[str] | Mapping[str, object]) -> tuple[str, ...]:
        """Those of the given ids that the daemon does not have, sorted."""
        return tuple(sorted(capability for capability in set(capabilities) if not self.supports(capability)))

    @checked
    def require(self, capability: str, for_what: str = "") -> None:
        """Make sure that the daemon has it.

        Args:
            capability: Its id.
            for_what: What the daemon is to do with it, to complete the sentence "The daemon cannot …"; empty for
                words that are known here.

        Raises:
            CapabilityError: If it has not; says since which release BuildKit has it.
        """
        if not self.supports(capability):
            raise CapabilityError(self._complaint(capability, for_what))

    @checked
    def require_all(self, capabilities: Iterable[str] | Set[str] | Mapping[str, object]) -> None:
        """Make sure that the daemon has all of them, such as `Definition.capabilities`.

        Raises:
            CapabilityError: If it has not; one sentence for each.
        """
        missing = self.missing(capabilities)
        if missing:
            raise CapabilityError("\n".join(self._complaint(capability, "") for capability in missing))

    def _complaint(self, capability: str, for_what: str) -> str:
        purpose = for_what or _PURPOSES.get(capability, f"do what `{capability}` stands for")
        release = FIRST_RELEASE.get(capability)
        needed = f"BuildKit {release} or newer" if release else "a newer BuildKit"
        if capability in self.enabled:
            said = self.reasons.get(capability, "")
            advice = f"this daemon has it switched off{f': {said}' if said else ''}"
        else:
            advice = "update the daemon, or point the build at a newer one"
        return f"The daemon cannot {purpose} (capability `{capability}`, {needed}; {advice})."
