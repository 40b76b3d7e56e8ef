"""What runs in the sandboxed child that reads documents: standard library, pypdf, markitdown, each other."""
