"""Git as a store: plumbing commands with a fixed environment, on the run folder alone.

- ``git``          starts git; ``settings`` are the options that keep other people's configuration out
- ``fast_import``  one commit, raw and whole, as one stream
- ``index``, ``objects``, ``packs``, ``trees``  the parts of a repository that are read or kept small

Never runs git in a tree that a model wrote: ``workspace/walk.py`` provides the files as bytes.
"""
