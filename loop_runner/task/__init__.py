"""What the user asks for: the task file, its types, and the prompts made from them.

- ``config``   ``Task``, and how a task file becomes one, with the line of each mistake
- ``prompts``  ``Templates``: renders what a model reads, from the folder ``prompts/``
- ``profiles`` which prompts and limits a small model gets

``task_types`` and ``scaffold`` know the ready-made types, ``resources`` finds the files that come with the
package, ``bounded`` keeps templates of users in bounds. Never opens an input and never asks a model.
"""
