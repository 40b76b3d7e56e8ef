"""One pass of a model: requests, replies, cells, until the answer is ready or a limit ends the pass.

- ``session``      a pass of the root model: reply, cell, output, one commit for each turn
- ``direct``       a pass in which all texts fit into one request
- ``child_session``  a session that the model starts itself (``rlm_query``)
- ``subcalls``     what a cell asks of other models (``llm_query``, ``llm_batch``, ``rlm_query``)

``conversation`` and ``transcript`` say what is sent, ``reply_reader`` finds the code in a reply, ``overview``
writes the first message. Never decides whether an answer is good. Start reading at ``session``.
"""
