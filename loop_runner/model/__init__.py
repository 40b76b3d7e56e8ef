"""One request, one reply, from any provider.

- ``client``             what a model client and a call log are
- ``registry``           from ``provider:name`` to a client; the defaults
- ``catalog``            reads ``models.yaml``, the one place that names models
- ``switchboard``        the one door: logs every reply before it is used, charges it once
- ``anthropic_client``   the official SDK
- ``openai_compatible``  chat completions over HTTP
- ``local``              a GGUF model in a process of its own (``local_server``), fetched by ``fetch``
- ``script``             replies from a YAML file
- ``prices``             what a call costs, or that nobody knows

Importing this package imports nothing else.
"""
