"""``local:coder`` and ``local:/path.gguf``: a model on this machine, in a process of its own.

Owns that process: started at the first request, kept warm, started once more when it dies in a request, ended
with the client. Relies on ``local_server`` for the model and on ``openai_compatible`` to talk to it. One
request at a time: on processors, side by side is slower than one after another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loop_runner import plugins
from loop_runner.errors import ConfigError, ModelError
from loop_runner.model import catalog
from loop_runner.model.providers import fetch
from loop_runner.model.providers.openai_compatible import OpenAICompatibleClient
from loop_runner.records import Reply, Request
from loop_runner.text import cut_middle, escape_controls

_START_TIMEOUT_S = 300.0  # reading 1 GB from a slow disk
_END_TIMEOUT_S = 5.0
# -P: a file called json.py in the user's folder must not become part of the server.
_SERVER = (sys.executable, "-P", "-m", "loop_runner.model.providers.local_server")
# Prefixes of conversations that wait their turn. A root session and its sub-calls alternate on one slot;
# without this memory each would have its whole prompt read again (1.4 s instead of 21 s for 1,270 tokens).
_CACHE_MB = 1024


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model file and how it is served."""

    label: str  # "local:coder"
    path: Path
    window_tokens: int


def client(
    name: str, *, base_dir: Path, models_dir: Path, tell: Callable[[str], None] = lambda _: None
) -> LocalClient:
    """The client for ``local:name``: a fetchable model's name, or a path that ends in ``.gguf``.

    Raises ``ConfigError`` for an unknown name or a missing file, ``ModelError`` when the model is not fetched
    or the extra is not installed; each says what to do.
    """
    import importlib.util

    path = _file(name, base_dir, models_dir)
    if importlib.util.find_spec("xllamacpp") is None:
        raise ModelError(
            f"local:{name} needs the extra `local`, which is not installed",
            hint=plugins.command_for("local"),
        )
    window = catalog.load().providers["local"].facts_of(name).window_tokens
    return LocalClient(LocalModel(f"local:{name}", path, window), tell=tell)


def _file(name: str, base_dir: Path, models_dir: Path) -> Path:
    if name.endswith(".gguf"):
        path = base_dir / Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no model file {path}", hint="check the path in local:PATH.gguf")
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ConfigError(f"{path} is not a GGUF file", hint="convert the model to GGUF first")
        return path
    known = catalog.load().fetchable
    if name not in known:
        raise ConfigError(
            f"there is no local model {name!r}",
            hint=f"known: {', '.join(known)}; or give a file of your own: local:/path/to/model.gguf",
        )
    if not fetch.is_fetched(name, models_dir):
        raise ModelError(
            f"local:{name} is not fetched yet",
            why=f"its {known[name].size_bytes / 1e9:.1f} GB file is not in {models_dir}",
            hint=f"loop-runner models fetch {name}",
        )
    return fetch.model_file(name, models_dir)


class LocalClient:
    """Talks to the model's process; see the module. ``server`` is the command that starts it."""

    def __init__(
        self,
        model: LocalModel,
        *,
        server: Sequence[str] = _SERVER,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._tell = tell
        self._command = tuple(server)
        self._turnstile = asyncio.Lock()
        self._server: _Server | None = None

    async def complete(self, request: Request) -> Reply:
        """One reply. Raises ``ModelError`` when the process does not start or dies twice over the request."""
        async with self._turnstile:
            try:
                return await self._ask(request)
            except ModelError:
                if self._server is None or await self._server.is_running():
                    raise
                how, words = self._server.how_it_ended(), self._server.last_words() or "(none)"
            self._tell(f"{self._model.label}: the model's process died ({how}) and is restarted: {words}")
            await self._end_server()
            try:
                return await self._ask(request)
            except ModelError as error:
                if self._server is None or await self._server.is_running():
                    raise
                raise self._died(self._server) from error

    async def close(self) -> None:
        """End the process and wait for it."""
        await self._end_server()

    async def _ask(self, request: Request) -> Reply:
        if self._server is None:
            # Forked here and not in a helper thread: the process dies with the thread that started it.
            server = _Server(self._command)
            try:
                await server.wait_until_ready(self._model)
            except BaseException:
                server.kill()  # also when the wait was cancelled: nobody would know of it any more
                raise
            self._server = server
        return await self._server.client.complete(request)

    async def _end_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.end()

    def _died(self, server: _Server) -> ModelError:
        return ModelError(
            f"{self._model.label}: the model's process died twice over one request ({server.how_it_ended()})",
            why=f"its last output: {server.last_words() or '(none)'}",
            hint="less free memory than the model needs is the usual reason; then: loop-runner resume",
        )


class _Server:
    """One life of the model's process."""

    client: OpenAICompatibleClient  # once it is ready

    def __init__(self, command: Sequence[str]) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )

    async def wait_until_ready(self, model: LocalModel) -> None:
        """Send the settings, read the address. Raises ``ModelError`` when the process ends or is silent."""
        key = secrets.token_hex(16)
        settings = {
            "path": str(model.path),
            "n_ctx": model.window_tokens,
            "api_key": key,
            "cache_mb": _CACHE_MB,
        }
        try:
            line = await asyncio.wait_for(asyncio.to_thread(self._introduce, settings), _START_TIMEOUT_S)
            url = json.loads(line)["url"]
        except (TimeoutError, OSError, ValueError, LookupError) as error:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            raise ModelError(
                f"{model.label}: the model's process did not start ({self.how_it_ended()})",
                why=f"its last output: {self.last_words() or '(none)'}",
                hint=f"check that {model.path} is complete and that there is enough memory for it",
            ) from error
        # A connection that breaks means that the process died: asking again is the caller's business.
        self.client = OpenAICompatibleClient(
            model.label.partition(":")[2],
            f"{url}/v1",
            key,
            label=model.label,
            extra={"temperature": 0, "cache_prompt": True},
            streams=False,
        )

    def _introduce(self, settings: dict[str, object]) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    async def is_running(self) -> bool:
        """Whether the process lives; gives one that is just dying a moment to finish."""
        for _ in range(10):
            if self._process.poll() is not None:
                return False
            await asyncio.sleep(0.05)
        return True

    def how_it_ended(self) -> str:
        code = self._process.poll()
        return "still running" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"

    def last_words(self) -> str:
        """The end of what it wrote to stderr, safe to show."""
        self._stderr.seek(0, 2)
        self._stderr.seek(max(0, self._stderr.tell() - 2000))
        return cut_middle(escape_controls(self._stderr.read().decode("utf-8", "replace").strip()), 1000)

    async def end(self) -> None:
        """Close stdin, which ends the process; kill it if it does not listen."""
        await self.client.close()
        await asyncio.to_thread(self._end)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already
            self._process.stdin.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._stderr.close()
