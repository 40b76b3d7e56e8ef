"""What runs in the sandboxed child that reads documents: the standard library, pypdfium2 and markitdown."""
