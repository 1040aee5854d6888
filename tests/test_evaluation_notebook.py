"""The notebook about evaluation runs from top to bottom."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

ROOT = Path(__file__).resolve().parents[1]


def outputs(notebook, kind):
    found = (o for cell in notebook.cells for o in cell.get("outputs", []))
    return [o["data"][kind] for o in found if kind in o.get("data", {})]


def test_it_runs_and_shows_both_results():
    notebook = nbformat.read(ROOT / "notebooks" / "evaluation.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}
    )
    client.execute()
    assert len(outputs(notebook, "image/png")) == 4
    (table,) = outputs(notebook, "text/html")
    assert "ours is better in 6 of 6 pairs" in table
    printed = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "12 of 12 invited voted, 72 of 72 votes are in" in printed
    assert "0.005146" in printed
    assert not [
        o for c in notebook.cells for o in c.get("outputs", []) if o.get("name") == "stderr"
    ]
