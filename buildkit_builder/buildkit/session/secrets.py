"""`Secrets`: values that steps mount or read from their environment.

Protocol: buildkit `session/secrets`. A value leaves this machine only when a step asks for it by an id declared here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from grpc import StatusCode

from buildkit_builder.buildkit.session.server import Call, RpcError, Server, unary
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.secrets_pb2 import GetSecretRequest, GetSecretResponse
from buildkit_builder.errors import BuildKitError, ImageError, MissingSecretError

_SIZE_LIMIT = 500 << 10  # bytes; the limit of BuildKit's own client

SecretValue = bytes | Callable[[], bytes]


class Secrets:
    """The session's service that hands out secrets.

    Args:
        values: What each id stands for: the bytes, or a function that returns them, called in a thread each time the
            secret is asked for. Any other id is answered with NOT_FOUND, which optional mounts accept.
    """

    def __init__(self, values: Mapping[str, SecretValue]) -> None:
        self._values = dict(values)

    def register(self, server: Server) -> tuple[str, ...]:
        """Adds `Secrets/GetSecret`."""
        server.add(services.SECRETS_GET_SECRET, unary(GetSecretRequest.FromString, self._get))
        return (services.SECRETS_GET_SECRET,)

    async def _get(self, request: GetSecretRequest, call: Call) -> GetSecretResponse:
        value = self._values.get(request.ID)
        if value is None:
            raise RpcError(StatusCode.NOT_FOUND, f"There is no secret {request.ID!r} in this build.")
        if callable(value):
            try:
                value = await call.in_thread(value)
            except BuildKitError:
                raise
            except Exception as error:
                # Not the error's text: it may hold the value.
                raise MissingSecretError(
                    f"The secret {request.ID!r} could not be read ({type(error).__name__})."
                ) from error
        if len(value) > _SIZE_LIMIT:
            raise ImageError(
                f"The secret {request.ID!r} has {len(value)} bytes; BuildKit takes at most {_SIZE_LIMIT}. "
                "Copy a file of that size into the image's build instead."
            )
        return GetSecretResponse(data=value)
