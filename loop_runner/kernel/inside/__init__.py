"""The program of the kernel process, which runs the model's code: the standard library and this folder only.

In that process the folder is the package ``loop_runner.kernel`` (``kernel/launch.py``), so that pickles and
cells of any version find ``loop_runner.kernel.snapshot``; the modules use relative imports.

- ``child``     the loop of the process: takes frames, runs cells, sends reports
- ``helpers``   the functions for the model: ``search_text``, ``chunks``, ``llm_query``, ``cite``, ``answer``
...
- ``snapshot``  variables to bytes and back; ``saver`` decides what to write again

Nothing here is trusted: the host checks every frame (``kernel/report.py``).
"""
