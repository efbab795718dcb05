"""Local files, read once for all builds that begin before they are read.

A daemon takes two local sources for one where their names and their sessions are the same (protocol: buildkit
`source/local`). So builds of one process do not serve their files each in a session of its own, from which eight
images with one source folder would be sent it eight times, but join a session that serves files alone. A build joins
only as long as none of its folders has begun to be read: what it is given is never older than the build.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from buildkit_builder.buildkit.session.filesync import FileSync, LocalDirectory
from buildkit_builder.buildkit.session.session import Session, SessionOpener
from buildkit_builder.errors import BuildKitError


class FilesSession:
    """A session from which several builds have their local files.

    Args:
        control: The daemon.
    """

    def __init__(self, control: SessionOpener) -> None:
        self._control = control
        self._files = FileSync(())
        self._session = Session((self._files,))
        self._open = contextlib.AsyncExitStack()
        self._users = 0

    @property
    def id(self) -> str:
        """For the `local.session` of sources."""
        return self._session.id

    @property
    def errors(self) -> Sequence[BuildKitError]:
        """Why files could not be sent; the daemon repeats the messages to the builds that wanted them."""
        return self._files.errors

    @property
    def notices(self) -> Sequence[str]:
        """What whoever builds should know of files that were sent."""
        return self._files.notices

    def has_room_for(self, directories: Sequence[LocalDirectory]) -> bool:
        """Whether none of these has begun to be read, and the session still stands."""
        begun = any(directory.name in self._files.begun for directory in directories)
        return not begun and self._session.lost is None

    async def open(self) -> None:
        """Offers it to the daemon."""
        await self._open.enter_async_context(self._session.open(self._control))

    async def close(self) -> None:
        """Ends it."""
        await self._open.aclose()

    def join(self, directories: Sequence[LocalDirectory]) -> None:
        """One more build uses it."""
        self._users += 1
        self._files.add(directories)

    def leave(self) -> bool:
        """One build less uses it; returns whether that was the last."""
        self._users -= 1
        return not self._users


class SharedFiles:
    """The sessions that serve the files of the builds on one daemon.

    Args:
        control: The daemon.
    """

    def __init__(self, control: SessionOpener) -> None:
        self._control = control
        self._sessions: list[FilesSession] = []

    @contextlib.asynccontextmanager
    async def serve(self, directories: Sequence[LocalDirectory]) -> AsyncIterator[FilesSession]:
        """Serves a build's folders while the context lasts.

        Args:
            directories: With names that mean the same folder, and the same choice of its files, in every build.
        """
        session = next((found for found in self._sessions if found.has_room_for(directories)), None)
        if session is None:
            session = FilesSession(self._control)
            await session.open()
            self._sessions.append(session)
        session.join(directories)
        try:
            yield session
        finally:
            if session.leave():
                # First of all nobody joins it any more.
                self._sessions.remove(session)
                await session.close()
