"""Questions with exact answer keys, ways to answer them, and what came out: ``python -m evals``.

- ``families/``    seeded generators of questions, one module per family
- ``questions``    what a question and its answer key are; ``halves`` which seeds may be used when
- ``grading``      whether an answer is right, per kind of answer
- ``arms/``        the ways to answer: one call, retrieval, other packages, loop-runner
- ``runner``       asks and records; ``measures`` counts; ``results`` and ``plots`` write ``RESULTS.md``

Never shows an arm the key. Uses only the public API of ``loop_runner``. Start reading at ``questions``.
"""
