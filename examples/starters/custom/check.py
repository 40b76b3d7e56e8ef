"""A gate of one's own. It is pinned when a run begins and runs in a sandbox, apart from the model."""


def check(submission):
    """Nothing accepts; a text is the reason why not, which the next pass is told."""
    output = submission.answer.strip().splitlines()
    wanted = [
        f"{item.name}: {len(item.read().split())}"
        for item in sorted(submission.inputs, key=lambda item: item.name)
    ]
    wrong = [line for line in output if line not in wanted]
    if wrong:
        return f"not true: {'; '.join(wrong)}"
    if len(output) != len(wanted):
        return f"{len(output)} of {len(wanted)} texts are there"
    return None
