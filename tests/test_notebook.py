"""The script in a real Jupyter kernel: %run, import, and calls of its functions."""

import nbformat
from conftest import ROOT, TINY
from nbclient import NotebookClient


def test_the_script_works_in_a_notebook(corpus, tmp_path):
    script = ROOT / "seq2seq_char.py"
    arguments = f"--data-path {corpus} --model-path {tmp_path}/m.keras --epochs 1 {' '.join(TINY)}"
    cells = [
        f"%run {script} {arguments}",
        f'%run {script} translate "I am busy." xyzzy --model-path {tmp_path}/m.keras',
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import seq2seq_char",
        f"print('status', seq2seq_char.main({arguments.split()!r}))",
        f"model, notes = seq2seq_char.load_model('{tmp_path}/m.keras')\n"
        "translate = seq2seq_char.make_translator(model, notes)\n"
        "print(len(translate(['I am busy.', 'Hello.'])))",
        "print('status', seq2seq_char.main(['--epochs', '0']))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path))
    texts = []
    for cell in notebook.cells:
        assert all(output.output_type == "stream" for output in cell.outputs), cell.outputs
        texts.append("".join(output.text for output in cell.outputs))
    assert "val_accuracy" in texts[0] and "Saved in" in texts[0]
    assert "training never saw" in texts[1] and "xyzzy" in texts[1]
    assert "status 0" in texts[3] and texts[4] == "2\n"
    assert "EPOCHS = 0: must be" in texts[5] and "status 2" in texts[5]
