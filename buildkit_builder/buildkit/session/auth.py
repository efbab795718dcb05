"""`Auth`: the daemon's questions for registry credentials.

Protocol: buildkit `session/auth`. Where a registry wants bearer tokens, the daemon gets tokens that we fetch, and never
the password: we prove to it with an Ed25519 key, derived from the password, that a token in its cache is ours to use.
Only registries with plain HTTP authentication make it ask for the password itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from grpc import StatusCode

from buildkit_builder.buildkit.session.credential_helpers import HELPERS
from buildkit_builder.buildkit.session.credentials import Credentials
from buildkit_builder.buildkit.session.docker_config import DockerConfig
from buildkit_builder.buildkit.session.registries import Registries
from buildkit_builder.buildkit.session.server import Call, Handler, RpcError, Server, unary
from buildkit_builder.buildkit.session.tokens import Challenge, Token, fetch_token
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.auth_pb2 import (
    CredentialsRequest,
    CredentialsResponse,
    FetchTokenRequest,
    FetchTokenResponse,
    GetTokenAuthorityRequest,
    GetTokenAuthorityResponse,
    VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
)
from buildkit_builder.errors import CredentialsError, RegistryError

_SEED_BYTES = 16
_REFUSED_SECONDS = 30.0
_SHOWN_LIMIT = 1000  # registries; no build has as many


class Auth:
    """The session's service that answers for the registries of a build.

    What a credential helper says is kept for some minutes; it is asked once more where a token server refuses that.

    Args:
        docker_config: Where the credentials are.
        registries: Whose credentials the daemon may have. Others are answered as if there were none, and are not
            spoken to. `build.run` adds those that the build names.
        ca_bundle: Certificates to trust beside the system's when fetching tokens.
        insecure_registries: As `fetch_token`.

    Attributes:
        registries: As given.
        errors: What went wrong, in order. The daemon repeats the messages; whether a build can do without, only it
            knows.
    """

    def __init__(
        self,
        docker_config: DockerConfig,
        *,
        registries: Registries | None = None,
        ca_bundle: Path | None = None,
        insecure_registries: Sequence[str] = (),
    ) -> None:
        self.errors: list[RegistryError] = []
        self.registries = registries if registries is not None else Registries()
        self._refused: dict[str, RegistryError] = {}
        self._was_refused = asyncio.Event()
        self._docker_config = docker_config
        self._ca_bundle = ca_bundle
        self._insecure_registries = tuple(insecure_registries)
        self._since = HELPERS.now()
        self._turn = asyncio.Lock()
        self._shown: set[str] = set()

    def register(self, server: Server) -> tuple[str, ...]:
        """Adds the four methods of `Auth`."""
        handlers: dict[str, Handler] = {
            services.AUTH_CREDENTIALS: unary(CredentialsRequest.FromString, self._credentials),
            services.AUTH_FETCH_TOKEN: unary(FetchTokenRequest.FromString, self._fetch_token),
            services.AUTH_GET_TOKEN_AUTHORITY: unary(GetTokenAuthorityRequest.FromString, self._authority),
            services.AUTH_VERIFY_TOKEN_AUTHORITY: unary(VerifyTokenAuthorityRequest.FromString, self._verify),
        }
        for path, handler in handlers.items():
            server.add(path, handler)
        return tuple(handlers)

    async def wait_refused(self) -> RegistryError:
        """Waits until a push has no token, and the daemon has not ended it for that.

        containerd's pusher waits forever where it is refused a token for the second attempt of an upload (seen with
        Docker Engine 28.5; its `core/remotes/docker/pusher.go` writes into a pipe that nobody reads).
        """
        while True:
            await self._was_refused.wait()
            self._was_refused.clear()
            await asyncio.sleep(_REFUSED_SECONDS)
            for error in self._refused.values():
                return error

    async def _lookup(self, host: str, call: Call) -> Credentials:
        if not self.registries.allow(host):
            # To these the daemon goes by itself, without credentials (protocol: buildkit `session/auth/auth.go`).
            raise RpcError(StatusCode.UNAVAILABLE, f"The build names no image of {host}.")
        if len(self._shown) < _SHOWN_LIMIT:
            self._shown.add(host)
        try:
            # Daemons ask eight times at once: one question waits for the helper, and no more of the session's threads.
            async with self._turn:
                return await call.in_thread(lambda: self._docker_config.lookup(host, since=self._since))
        except RegistryError as error:
            raise self._noted(error) from error

    def forget(self) -> None:
        """Has helpers asked anew for all that was shown: to be called where a build failed, perhaps for that."""
        for host in self._shown:
            self._docker_config.forget(host)

    def _noted(self, error: RegistryError) -> RpcError:
        if str(error) not in map(str, self.errors):
            self.errors.append(error)
        return RpcError(StatusCode.UNAUTHENTICATED, str(error))

    async def _credentials(self, request: CredentialsRequest, call: Call) -> CredentialsResponse:
        if not self.registries.allow(request.Host):
            return CredentialsResponse()
        credentials = await self._lookup(request.Host, call)
        if credentials.identity_token:
            return CredentialsResponse(Secret=credentials.identity_token)
        try:
            return CredentialsResponse(Username=credentials.username, Secret=credentials.password)
        except ValueError:  # protobuf's text is UTF-8
            raise self._noted(
                CredentialsError(
                    f"The password for {request.Host} is not UTF-8, and this registry is sent none that is not. "
                    "Choose another one."
                )
            ) from None

    async def _fetch_token(self, request: FetchTokenRequest, call: Call) -> FetchTokenResponse:
        credentials = await self._lookup(request.Host, call)
        challenge = Challenge(
            host=request.Host,
            realm=request.Realm,
            service=request.Service,
            scopes=tuple(request.Scopes),
            client_id=request.ClientID or "buildkit-client",
        )
        try:
            token = await call.in_thread(self._fetch, challenge, credentials)
        except RegistryError as error:
            if any("push" in scope.rpartition(":")[2] for scope in challenge.scopes):
                self._refused[request.Host] = error
                self._was_refused.set()
            raise self._noted(error) from error
        self._refused.pop(request.Host, None)
        return FetchTokenResponse(Token=token.value, ExpiresIn=token.expires_in, IssuedAt=token.issued_at)

    def _fetch(self, challenge: Challenge, credentials: Credentials) -> Token:
        def fetch(shown: Credentials) -> Token:
            return fetch_token(
                challenge, shown, ca_bundle=self._ca_bundle, insecure_registries=self._insecure_registries
            )

        try:
            return fetch(credentials)
        except CredentialsError:
            newer = self._docker_config.lookup(challenge.host, since=self._since, refused=credentials)
            if newer == credentials:
                raise
            return fetch(newer)

    async def _authority(self, request: GetTokenAuthorityRequest, call: Call) -> GetTokenAuthorityResponse:
        key = _authority_key(request.Host, await self._lookup(request.Host, call), request.Salt)
        return GetTokenAuthorityResponse(PublicKey=key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    async def _verify(self, request: VerifyTokenAuthorityRequest, call: Call) -> VerifyTokenAuthorityResponse:
        key = _authority_key(request.Host, await self._lookup(request.Host, call), request.Salt)
        return VerifyTokenAuthorityResponse(Signed=key.sign(request.Payload) + request.Payload)


def _authority_key(host: str, credentials: Credentials, salt: bytes) -> Ed25519PrivateKey:
    """Derives the key that stands for a registry's credentials, the same in every session that has them.

    BuildKit's own client keeps a random seed in a file beside the Docker config. Derived from the secret the seed needs
    no file, and the daemon learns nothing that it could not ask for with `Credentials`.
    """
    seed = b""
    if credentials.secret or credentials.registry_token:
        parts = (host, credentials.username, credentials.secret, credentials.registry_token)
        seed = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()[:_SEED_BYTES]
    return Ed25519PrivateKey.from_private_bytes(hmac.new(salt, seed, hashlib.sha256).digest())
