"""The start method "ray": one program's processes on all nodes of a Ray cluster.

Homes
-----
A *node* is a machine of the cluster. On each there is one family of procession's processes, with one
arena. The driver is the root of the family on its own node; on every other node an *agent*, a Ray
actor, is. An object has its *home* where it was made: in the family of the process that made it.
There it is the engine's object, and costs what it costs on one machine. When it is pickled for
another node, it becomes a *reference* (`references`); unpickled at home that is the object again,
elsewhere a proxy (`proxies`). Ray is asked which nodes there are and to run the agents, and by the
driver alone: all else goes over procession's own connections, and no other process loads Ray.

Deputies
--------
A process that uses objects of another home is represented there by a *deputy* (`deputy`, `calls`), a
process of the home's family that makes its calls, in one thread for each of its threads. So what a
lock knows of its owner, an `RLock` of its thread, and a family of the death of a process holds
without change: when the process dies or its connection breaks, the deputy ends, and the engine
recovers what it held. Waits in a deputy are cut into slices of `calls.SLICE` seconds, between which
it looks whether its caller still wants the result. What a caller must not lose (an item, a permit, a
lock) it acknowledges; a deputy that gets no acknowledgement undoes the call: an item goes back to the
*end* of its queue. If the network was cut, and the caller may live, the item is lost instead, so that
nothing is done twice.

No call is repeated after its connection broke: it raises `NodeLost`, and may or may not have been
carried out. From then on the proxies that the process has of this home raise `NodeLost` as well: what
it held there was given up, and a late `release` must not meet what another process has acquired since.
Proxies that arrive later are served by a new deputy.

References
----------
A reference in flight carries a *ticket*, which keeps the object alive at its home. The root of the
home's family holds it until the first receiver has redeemed it. From then on the receiver's deputy
holds the object, until the receiver's proxy is freed or the receiver ends. A message that is never
read keeps its objects until the program ends. A child of `os.fork` can use the proxies that it
inherits as long as some other process keeps the object.

Deaths
------
A process that an agent started is known to its parent by their connection (`popen`): its exit code
arrives as soon as it has ended. If the connection breaks, the process counts as killed, and its
agent kills it. An agent whose connection to the driver ends kills all processes of its family, and
itself. TCP notices within `node_timeout` seconds (`wire.SILENCE`) that a machine is gone.

Pools and pipes
---------------
`pools` has the pools and executors whose workers are on all nodes, and `pipes` what carries messages
between the ends of a pipe on two nodes.

What does not reach another node raises an error where it is sent: `SharedDict`, `SharedList`, shared
memory with a name, actors, copies of `share()`.
"""
