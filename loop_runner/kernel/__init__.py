"""The process that keeps the model's variables, and the host's side of it.

Host: ``kernel`` (the front), ``kernel_process`` (one life of the process), ``report`` (what a frame may say),
``launch``, ``lm_handler``. Inside the process: ``child`` and what it imports, with the standard library and
each other only. Both: ``wire``. Importing this package imports none of them.
"""
