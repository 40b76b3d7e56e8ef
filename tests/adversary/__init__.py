"""Attacks on the word "verified", each as a test whose name is the claim that must hold.

`make test-adversary` (`python -m tests.adversary`) runs them as root and as an ordinary user, with bubblewrap
(tier A) and with bubblewrap hidden (tier B), and prints "held" or "failed" for each. Started by pytest alone,
they run once, on the machine as it is.
"""
