"""Many runs of one task: jobs, leases on them, and workers on this machine or on others.

A fleet file names a task template and its jobs. ``jobs`` lists them, ``template`` writes the task of a job,
``stores`` keep their states and run folders where every worker reaches them, ``worker`` runs jobs one by one
under a lease, ``money`` reserves and settles what they cost, and ``results`` merges what came of them. Uses
the public API only.
"""
