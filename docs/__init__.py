"""The documentation, and the two programs that make its pictures (``draw``) and its site (``site``)."""
