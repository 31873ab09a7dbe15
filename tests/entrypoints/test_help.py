import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HEAVY = ("numpy", "torch", "mlflow", "h5py", "pandas", "scipy", "skimage", "matplotlib", "rich")
NAMES = sorted({path.stem for path in (PROJECT / "entrypoints").glob("*.py")} - {"cli", "command"})


@pytest.mark.parametrize("name", NAMES)
def test_help_imports_nothing_heavy(name, python_environment, tmp_path):
    script = PROJECT / "entrypoints" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(script), "--help"],
        env={**python_environment, "PYTHONPATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: {name}.py [OPTIONS]")
    assert "[default: " in done.stdout
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert {"click", "bench"} <= imported
    assert imported.isdisjoint(HEAVY)
