"""One request, one reply, from any provider.

- ``client``             what a model client and a call log are
- ``registry``           from ``provider:name`` to a client; the defaults
- ``catalog``            reads ``models.yaml``, the one place that names models
- ``switchboard``        the one door: logs every reply before it is used, charges it once
- ``limiter``            how many requests go out at once
- ``providers``          a module for each provider
- ``prices``             what a call costs, if the price is known

Importing this package imports nothing else.
"""
