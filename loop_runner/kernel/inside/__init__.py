"""The program of the kernel process, which runs the model's code: the standard library and this folder only.

In that process the folder is the package ``loop_runner.kernel`` (``kernel/launch.py``), so a pickle or a cell
of any version finds ``loop_runner.kernel.snapshot``; the modules import each other by dots.

- ``child``     the loop of the process: takes frames, runs cells, sends reports
- ``helpers``   what the model may call: ``search_text``, ``chunks``, ``llm_query``, ``cite``, ``answer`` ...
- ``snapshot``  variables to bytes and back; ``saver`` decides what is stored anew

Nothing here is trusted: the host checks every frame (``kernel/report.py``).
"""
