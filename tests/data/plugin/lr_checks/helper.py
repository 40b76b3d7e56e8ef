"""A module of the package that is not named in its entry points."""

from pathlib import Path

WORDS = Path(__file__).with_name("words.txt").read_text().split()


def is_shouted(text):
    return text.isupper() and any(word in text for word in WORDS)
