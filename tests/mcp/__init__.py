"""The MCP server, by the SDK's own client: in memory, over stdio and over HTTP. Runs are real processes."""
