"""Real servers on this machine's loopback, for measurements and tests: PostgreSQL and mlflow."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Debian keeps the programs of PostgreSQL off the path.
DEBIAN = "/usr/lib/postgresql"
START_S = 180.0
# PostgreSQL does not run as root.
SERVER_USER = "postgres"


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class MlflowServer:
    """`mlflow server` in processes of its own, on the same port whenever it is started."""

    def __init__(
        self,
        folder: Path,
        backend: str,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Describes a server.

        Args:
            folder: Where artifacts go, and its output.
            backend: Address of its database.
            options: More options.
            environment: Added to ours.
        """
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        artifacts = folder / "artifacts"
        self.command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        self.command += ["--host", "127.0.0.1", "--port", str(self.port)]
        self.command += ["--backend-store-uri", backend, "--artifacts-destination", str(artifacts)]
        self.command += options
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        # Runs of jobs would take 2 GB.
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.environment = kept | quiet | dict(environment or {})

    def start(self) -> "MlflowServer":
        """Starts it, and waits until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
                cwd=self.folder,
            )
        until = time.monotonic() + START_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"mlflow server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        return self

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5):  # noqa: S310
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def kill(self) -> None:
        """Ends it as a power cut would, with all of its processes."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def postgres_programs() -> tuple[str, str] | None:
    """`initdb` and `postgres`; None where they are not installed."""
    folders = sorted(Path(DEBIAN).glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    initdb, postgres = (shutil.which(name, path=path) for name in ("initdb", "postgres"))
    return (initdb, postgres) if initdb and postgres else None


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """Runs a new PostgreSQL; yields its address, with a password and without a database's name."""
    programs = postgres_programs()
    if programs is None:
        raise RuntimeError("PostgreSQL is not installed")
    user = SERVER_USER if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as temporary:
        folder, password, port = Path(temporary), secrets.token_hex(8), free_port()
        (folder / "password").write_text(password)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        login = ["--username=bench", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256"]
        make = [programs[0], "-D", str(folder / "data"), *login, "--no-sync", "--encoding=UTF8"]
        subprocess.run(make, user=user, cwd=folder, check=True, capture_output=True)
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs[1], "-D", str(folder / "data"), *flags],
                user=user,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            uri = f"postgresql://bench:{password}@127.0.0.1:{port}"
            wait_for_postgres(server, uri, folder / "log")
            yield uri
        finally:
            # Closes connections that are open.
            server.send_signal(signal.SIGINT)
            server.wait()


def wait_for_postgres(server: subprocess.Popen[bytes], uri: str, log: Path) -> None:
    """Waits until a database answers."""
    import psycopg

    until = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(f"{uri}/postgres").close()
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from error
            time.sleep(0.1)
        else:
            return


def make_database(uri: str, name: str) -> str:
    """Makes an empty database; returns its address."""
    import psycopg

    with psycopg.connect(f"{uri}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{uri}/{name}"
