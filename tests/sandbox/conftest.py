"""The fixtures of the kernel's tests: the sandbox is also tested around a real kernel."""

from tests.kernel.conftest import inputs_of, kernel, loop, start, sub_model

__all__ = ["inputs_of", "kernel", "loop", "start", "sub_model"]
