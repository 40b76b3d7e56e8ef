"""The MCP server: start, watch, steer and read runs from any client of the Model Context Protocol.

Owns seven tools, the resources of a run, two prompts, and the Tasks extension over run folders. Runs are
started through the launcher, so they outlive the server: a client may cancel, die or poll. Uses the public
API of the package only. Never decides whether an answer is verified.

Start reading at ``server.py`` (what a client sees), then ``starting.py`` (from arguments to a run) and
``tasks.py`` (the extension). ``install.py`` writes a client's configuration.
"""
