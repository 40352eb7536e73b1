"""Where Helia is, an npm package: AGENT_WORLD_BENCH_HELIA names a folder in which it was installed (docs/ipfs.md)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

TIME_MAX_S = 180.0


def programs() -> tuple[str, Path] | None:
    """The program and the folder of packages; None without."""
    place = os.environ.get("AGENT_WORLD_BENCH_HELIA")
    if place is None or not (Path(place) / "node_modules" / "helia").is_dir():
        return None
    own = Path(place) / "node_modules" / ".bin" / "node"
    program = str(own) if own.exists() else shutil.which("node")
    return None if program is None else (program, Path(place) / "node_modules")


def run_script(name: str, directory: Path, program: str, packages: Path, *arguments: str) -> dict[str, Any]:
    """The last line that a script of this folder prints, run in ``directory``; SystemExit if it fails."""
    link = directory / "node_modules"
    if not link.exists():  # imports of a module are looked for beside it
        link.symlink_to(packages.resolve())
    script = shutil.copy(Path(__file__).with_name(name), directory)
    done = subprocess.run(
        [program, script, *arguments], capture_output=True, text=True, timeout=TIME_MAX_S, check=False
    )
    if done.returncode:
        raise SystemExit(f"helia {' '.join(arguments[:1])}: {done.stderr.strip()[-2_000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
