"""One module for each provider, and what several of them need.

- ``anthropic_client``, ``anthropic_batch``  the official SDK, and its half-price batches
- ``openai_compatible``                      chat completions of any server, over HTTP
- ``local``, ``local_server``, ``fetch``     a GGUF model in a process of its own, and how it is fetched
- ``manual``, ``script``, ``program``        a person, a file of replies, a program instead of a model

Each is a ``ModelClient`` (``model/client.py``), made by ``model/registry.py`` when a task names it. None
charges, logs or retries: the switchboard does.
"""
