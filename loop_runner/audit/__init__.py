"""Audits: rules in plain words over many files, judged place by place, for people and for CI.

Owns the rules file, the choice of files, the plan that the kernel's program follows
(``kernel/inside/audit.py``) and the processing of its report: fingerprints, suppressions, a baseline, and the
formats that CI systems read. ``run.run`` performs a whole audit, which is an ordinary run (docs/adr/0010):
``runs`` starts and resumes it, ``verify/findings.py`` is its gate. Never asks a model itself, never prints.
"""
