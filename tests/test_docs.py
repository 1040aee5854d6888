"""The code in docs/ works as it is printed."""

import re
from pathlib import Path

import numpy as np
import pytest

import depthstyle as ds

FOLDER = Path(__file__).parents[1] / "docs"
PAGES = [page for page in sorted(FOLDER.rglob("*.md")) if "```python" in page.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    for name, darkest in (("photograph", 0), ("style", 0.5)):
        picture = rng.uniform(darkest, darkest + 0.5, (90, 120, 3))
        ds.write_image(f"{name}.png", picture.astype(np.float32))
    names = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)
    if page.stem == "write-your-own-loss":
        losses = names["session"].losses["colour"]
        assert losses[-1] < losses[0]
        assert Path("picture.png").exists()
