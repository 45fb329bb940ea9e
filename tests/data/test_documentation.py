"""The example of docs/data.md runs."""

import re
from pathlib import Path

from vasa_jax.data.records import LABELS

TEXT = Path("docs/data.md").read_text(encoding="utf-8")


def test_the_example_trains_two_steps():
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(compile(block, "docs/data.md", "exec"), names)
    assert names["result"].step == 2 and names["result"].stopped == "enough"


def test_every_label_is_in_the_table_with_its_shape():
    for name, shape in LABELS.items():
        sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        assert f"| {name} | ({sizes}) |" in TEXT, name
