"""Real data that every installation has: handwritten digits, the words of Python's own help, two photographs.

Each task is a problems.Classifier of streamed batches. Few outputs: `odd_or_even`, `ten_digits` (scikit-learn's 1797
digits, less their mean, |x|^2 = D on average). Many outputs: `next_word(outputs)`, the next of `outputs` words and
signs after a window of WINDOW in the help texts that ship with Python; `which_patch(outputs)`, which of up to 512
places of two photographs (scikit-learn's) a patch of 8 x 8 pixels in colour comes from, moved, mirrored, brightened.
All have the same network; the learning rates were chosen by one rule, see `rates` in real_tasks.py.
"""

import hashlib
import re
from collections import Counter
from functools import cache, partial
from pydoc_data import topics

import numpy as np
from scipy import sparse
from sklearn.datasets import load_digits, load_sample_images
from spectral_dynamics import problems

BATCH, WINDOW = 128, 4
NETWORK = {"depth": 3, "activation": "tanh", "output_scale": 1.0, "weight_std": 1.0, "momentum": 0.9}


def odd_or_even(rate: float, **changes) -> problems.Classifier:
    """One output: is the digit odd?"""
    images, shown = digits()
    return _task(partial(_rows, images, shown % 2), 64, 1, rate, **changes)


def ten_digits(rate: float, **changes) -> problems.Classifier:
    """Ten outputs."""
    return _task(partial(_rows, *digits()), 64, 10, rate, **changes)


def next_word(rate: float, outputs: int = 1024, words: str | None = None, **changes) -> problems.Classifier:
    """As many outputs as words: the most frequent `outputs` - 1, and one for all others. `words`: another text."""
    return _task(partial(_windows, tokens(outputs, words), outputs), WINDOW * outputs, outputs, rate, **changes)


def which_patch(rate: float, outputs: int = 512, **changes) -> problems.Classifier:
    """As many outputs as patches."""
    return _task(partial(_patches, places(outputs)), 192, outputs, rate, **changes)


def _task(stream, dimension: int, outputs: int, rate: float, **changes) -> problems.Classifier:
    return problems.Classifier(stream, dimension, outputs, **(NETWORK | {"learning_rate": rate} | changes))


# Digits


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 64) and what they show."""
    images, shown = load_digits(return_X_y=True)
    images = images - images.mean(axis=0)
    return images * (8 / np.sqrt(np.mean(np.sum(images**2, axis=1)))), shown


def _rows(images, labels, rng):
    chosen = rng.integers(len(images), size=BATCH)
    return images[chosen], labels[chosen]


# Words


@cache
def text() -> str:
    """The help texts in the order of their names, in small letters."""
    return " ".join(topics.topics[name] for name in sorted(topics.topics)).lower()


def text_hash() -> str:
    """Which text it is: versions of Python differ."""
    return hashlib.sha256(text().encode()).hexdigest()[:16]


@cache
def made_up(count: int) -> str:
    """Another text, of `count` words, numbers and signs: the same one in every version of Python."""
    ends = [chr(ord("a") + place % 26) * (1 + place % 3) for place in (n * n % 97 for n in range(count))]
    return " ".join("." if n % 7 == 3 else str(n % 13) if n % 11 == 5 else f"w{end}" for n, end in enumerate(ends))


def apart(words: str) -> list[str]:
    """A text taken apart, into words of letters, numbers and signs."""
    return re.findall(r"[a-z]+|[0-9]+|[^\sa-z0-9]", words)


@cache
def tokens(vocabulary: int, words: str | None = None) -> np.ndarray:
    """The text as numbers: words, numbers and signs, 0 the most frequent, vocabulary - 1 for all that are rare."""
    found = apart(text() if words is None else words)
    number = {word: place for place, (word, _) in enumerate(Counter(found).most_common(vocabulary - 1))}
    return np.array([number.get(word, vocabulary - 1) for word in found])


def _windows(words, vocabulary: int, rng):
    """One-hot windows (BATCH, WINDOW vocabulary), |x|^2 = D, and the words that follow."""
    follows = rng.integers(WINDOW, len(words), size=BATCH)
    before = words[follows[:, None] - np.arange(1, WINDOW + 1)] + vocabulary * np.arange(WINDOW)
    ones = np.full(before.size, np.sqrt(vocabulary))
    starts = WINDOW * np.arange(BATCH + 1)
    return sparse.csr_array((ones, before.ravel(), starts), shape=(BATCH, WINDOW * vocabulary)), words[follows]


# Patches


@cache
def places(count: int) -> np.ndarray:
    """`count` of the 512 places, evenly chosen: (count, 12, 12, 3), at half the photographs' resolution."""
    found = []
    for photograph in load_sample_images().images:
        half = photograph[:426].reshape(213, 2, 320, 2, 3).mean(axis=(1, 3)) / 255
        found += [half[13 * r : 13 * r + 12, 20 * c : 20 * c + 12] for r in range(16) for c in range(16)]
    return np.array(found)[np.linspace(0, len(found) - 1, count).astype(int)]


def _patches(found, rng):
    """Patches (BATCH, 192) of random places, less the mean, |x|^2 = D on average, and the places."""
    shown, by = rng.integers(len(found), size=BATCH), rng.integers(5, size=(BATCH, 2))
    moved = np.lib.stride_tricks.sliding_window_view(found, (8, 8), axis=(1, 2))[shown, by[:, 0], by[:, 1]]
    patches = np.moveaxis(moved, 1, 3).copy()
    mirrored = rng.random(BATCH) < 0.5
    patches[mirrored] = patches[mirrored][:, :, ::-1]
    patches *= rng.uniform(0.9, 1.1, size=(BATCH, 1, 1, 1))
    middle = found[:, 2:10, 2:10].reshape(len(found), -1)
    mean = middle.mean(axis=0)
    size = np.sqrt(np.mean(np.sum((middle - mean) ** 2, axis=1)))
    return (patches.reshape(BATCH, -1) - mean) * (np.sqrt(192) / size), shown
