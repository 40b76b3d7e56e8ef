"""The report of a run as one HTML file, and an index of many: what a person reads, sends or keeps.

- ``page``     a run's page, within a limit of bytes
- ``all_runs`` the list of all runs in a folder
- ``html``     how texts that others wrote become HTML: escaped, highlighted, with citations that open
- ``transcripts`` what other tools read
- ``chart``    score, spend and cache share as SVG
- ``writing``  files, and where none may be written

A front end on the public API: reads ``lr.Record`` and nothing else. Everything that a model or an input wrote
is data: never a template, never HTML, never a link. Never starts anything. Start reading at ``page``.
"""
