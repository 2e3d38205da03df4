"""The example of the README does what it says."""

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_example_predicts_the_one_value_that_left_the_bulk():
    code = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)[1]
    names: dict = {}
    exec(code, names)
    network, spectra = names["network"], names["spectra"]
    measured = network.singular_values(layer=1, step=30)
    predicted = spectra.outliers.from_recording(names["recording"]).singular_values
    outside = measured[measured > 1.03 * 2]
    assert outside.size == predicted.size == 1
    assert abs(predicted[0] / outside[0] - 1) < 5e-3
