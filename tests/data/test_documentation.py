"""The example of docs/data.md runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

from vasa_jax.data.labels import LABELS

TEXT = Path("docs/data.md").read_text(encoding="utf-8")


def test_the_example_trains_two_steps(tmp_path):
    """In a process of its own, on one device."""
    script = tmp_path / "example.py"
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    script.write_text("\n".join([*blocks, "assert (result.step, result.stopped) == (2, 'enough')"]))
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "TMPDIR": str(tmp_path)}
    run = subprocess.run([sys.executable, script], env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_every_label_is_in_the_table_with_its_shape():
    for name, shape in LABELS.items():
        sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        assert f"| {name} | ({sizes}) |" in TEXT, name
