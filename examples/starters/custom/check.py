"""A gate of one's own. It is pinned when a run begins and runs in a sandbox, apart from the model."""


def check(submission):
    """Nothing accepts; a text is the reason why not, which the next pass is told."""
    said = submission.answer.strip().splitlines()
    wanted = [
        f"{one.name}: {len(one.read().split())}"
        for one in sorted(submission.inputs, key=lambda one: one.name)
    ]
    wrong = [line for line in said if line not in wanted]
    if wrong:
        return f"not true: {'; '.join(wrong)}"
    if len(said) != len(wanted):
        return f"{len(said)} of {len(wanted)} texts are there"
    return None
