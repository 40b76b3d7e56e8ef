"""A check that is a Python function."""


def check(submission):
    """What is wrong with the answer; None if nothing is."""
    return None if "> " in submission.answer else "the answer has no quote"
