"""Dockerfiles, read and followed without an engine: comes in a file, go out its stages, or what it builds as a folder.

Read is what the project's own files use; anything else (heredocs, ONBUILD, commands of a shell) is an AssertionError,
so that nothing is passed over in silence.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = tuple(sorted((ROOT / "docker").glob("*.Dockerfile")))
FOLLOWED = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
WORDS = FOLLOWED | {"EXPOSE", "USER"}


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word, its `--name=value` flags, and the rest on one line."""

    word: str
    flags: tuple[str, ...]
    value: str


@dataclass(frozen=True)
class Stage:
    """What one FROM begins. name: as other stages call it, or empty."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def find(self, word: str) -> list[Instruction]:
        """The instructions with this word, in their order."""
        return [one for one in self.instructions if one.word == word]


def read_stages(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, in their order."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    stages: list[Stage] = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, *rest = line.split()
        assert word in WORDS, f"{path}: {word} is not read here"
        assert "<<" not in line, f"{path}: heredocs are not read here"
        flags = []
        while rest and rest[0].startswith("--"):
            flags.append(rest.pop(0))
        one = Instruction(word, tuple(flags), " ".join(rest))
        if word == "FROM":
            base, _, name = one.value.partition(" AS ")
            stages.append(Stage(base, name, ()))
        else:
            assert stages, f"{path}: {word} stands before the first FROM"
            last = stages[-1]
            stages[-1] = Stage(last.base, last.name, (*last.instructions, one))
    return stages


def exec_form(value: str) -> list[str]:
    """The words of a command in JSON; another form is refused, for it would be run by a shell that passes no signal."""
    words = json.loads(value)
    assert isinstance(words, list)
    assert all(isinstance(word, str) for word in words)
    return words


def is_sent(path: Path) -> bool:
    """Whether .dockerignore lets an engine see a path of the repository; the last pattern that matches decides."""
    relative, sent = path.relative_to(ROOT), True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern, kept = line.removeprefix("!"), line.startswith("!")
        anywhere, pattern = pattern.startswith("**/"), pattern.removeprefix("**/")
        assert "/" not in pattern, f"{line} is not read here"
        parts = relative.parts if anywhere else relative.parts[:1]
        if any(fnmatch.fnmatch(part, pattern) for part in parts):
            sent = kept
    return sent


@dataclass
class Built:
    """What a Dockerfile builds, with `folder` in the place of the image's root and free ports instead of its own."""

    folder: Path
    ports: Mapping[str, int]
    environment: dict[str, str] = field(default_factory=dict)
    workdir: Path = Path()
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def place(self, text: str) -> str:
        """A word of the Dockerfile or of the compose file, with the folders and ports of here."""
        found = re.sub(r"(?<![\w.:/}])(?=/(venv|src|app|store|run/secrets)\b)", str(self.folder), text)
        for port, free in self.ports.items():
            found = re.sub(rf"\b{port}\b", str(free), found)
        return found

    def start(
        self,
        command: list[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command as the image would, with nothing of this process's environment; output goes to `log`."""
        given = {name: self.place(value) for name, value in (environment or {}).items()}
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        with log.open("wb") as output:
            return subprocess.Popen(
                [self.place(word) for word in command],
                env=self.environment | {"HOME": str(home)} | given,
                cwd=self.workdir,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=preexec,
                start_new_session=True,
                executable=shutil.which(command[0], path=self.environment["PATH"]),
            )

    def run(self, command: list[str], environment: Mapping[str, str] | None = None) -> str:
        """Run a command as the image would; gives its output, and fails where it fails."""
        log = self.folder / "output"
        with self.start(command, log, environment) as child:
            try:
                child.wait(240)
            finally:
                kill(child)
        assert child.returncode == 0, log.read_text()
        return log.read_text()

    def is_healthy(self, test: list[str] | None = None) -> bool:
        """Whether a health check, the image's own where none is given, succeeds now."""
        with self.start(test or self.health, self.folder / "health") as child:
            return child.wait(60) == 0


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a process that `start` has started, and all that it has started in turn."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait(30)


def follow(path: Path, folder: Path, ports: Mapping[str, int]) -> Built:
    """Do in `folder` what a Dockerfile says, with its own install lines and the Python of here.

    The RUN lines of the last stage are left out: they change what the base image holds, which is not here.
    """
    stages = read_stages(path)
    built = Built(folder, ports)
    for stage in stages:
        last = stage is stages[-1]
        given: dict[str, str] = {}
        workdir = folder / "builder"
        for one in stage.instructions:
            if one.word == "ARG":
                name, _, default = one.value.partition("=")
                given[name] = default
            elif one.word == "WORKDIR":
                workdir = Path(built.place(one.value))
                workdir.mkdir(parents=True, exist_ok=True)
            elif one.word == "VOLUME":
                Path(built.place(one.value)).mkdir(parents=True, exist_ok=True)
            elif one.word == "COPY":
                _copy(built, one, workdir)
            elif one.word == "RUN" and not last:
                _run(built.place(one.value), workdir, given)
            elif one.word == "ENV":
                _set(built, one.value)
            elif one.word == "HEALTHCHECK":
                built.health = exec_form(one.value.removeprefix("CMD "))
            elif one.word in ("ENTRYPOINT", "CMD"):
                built.command += exec_form(one.value)
        built.workdir = workdir
    return built


def _copy(built: Built, one: Instruction, workdir: Path) -> None:
    *sources, target = one.value.split()
    place = Path(built.place(target)) if target.startswith("/") else workdir / target
    for source in sources:
        if one.flags:  # from another stage, which has built it in its final place
            assert (source, Path(built.place(source)).is_dir()) == (target, True)
        elif (ROOT / source).is_dir():
            left_out = {str(path) for path in (ROOT / source).rglob("*") if not is_sent(path)}
            shutil.copytree(
                ROOT / source,
                place,
                ignore=lambda at, names, left_out=left_out: [name for name in names if f"{at}/{name}" in left_out],
                dirs_exist_ok=True,
            )
        else:
            whole = target.endswith("/") or len(sources) > 1
            place.mkdir(parents=True, exist_ok=True) if whole else place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place / source if whole else place)


def _run(script: str, workdir: Path, given: Mapping[str, str]) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=workdir,
        env=os.environ | given | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=570,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


def _set(built: Built, value: str) -> None:
    for pair in shlex.split(value):
        name, _, text = pair.partition("=")
        assert "$" not in text.replace("$PATH", ""), f"{pair} is not read here"
        built.environment[name] = built.place(text.replace("$PATH", "/usr/local/bin:/usr/bin:/bin"))
