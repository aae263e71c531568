"""Pools whose workers are on all nodes of a cluster.

The process that made the pool has the scheduler (`core`, `subpool`, `job`): tasks wait there, pickled, until a
node has room for them. On each node is a *sub-pool* (`node`): a process with an ordinary pool of the
engine, which runs the tasks (`tasks`) and knows of its workers' deaths. It never unpickles what the
program sends: functions, arguments and results pass it as bytes.

A sub-pool has a task for each of its workers and, beyond that, as many as take its workers
`subpool.COVER` seconds by the measured times, so that no worker waits for the network. When no task
waits any more, nodes with idle workers are given what busy ones have not begun.

`workers` starts the sub-pools and replaces those that end. A task that was sent to a sub-pool whose
process or node is gone counts as one whose worker died: it may have begun. It fails with
`WorkerDied`, or is tried again by the pool's option `retries`, at any node.
"""
