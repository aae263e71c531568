"""Actors: an object in a process of its own, which any process of the family may call.

The process that makes an actor is its owner. A thread there (`owner`) starts the actor's process, starts it again
after a death as far as the options allow, and writes down which *incarnation* of the actor there is (`board`). The
actor's process (`server`) takes requests from one queue of the engine and puts each reply into a queue of the caller.
Each process that calls has a `client`, with a thread that watches the actor's process and its owner.

Why no call waits for ever. A caller waits for a reply or for its client's notice that the incarnation is over. The
client learns that from the kernel: it polls the pidfds of the actor and of the owner, so it needs no other process for
it. If a wake-up or the notice is lost, waits have slices of a second, and each looks at what is written down.

- The actor's process dies: the owner writes down how, and whether another incarnation follows. Clients wait for this
  word before they fail the calls under way: for a second if the owner is stopped, else for ten, as it may be busy.
- The owner dies: the actor's process ends with it, as daemons do. For clients the actor is then dead for good.
- A client dies or is stopped: what it was writing is skipped by the engine's queue. The actor never waits for a client:
  queues of replies have no bound. What it keeps of dead processes it forgets when new ones introduce themselves.
- A caller waits for room in a bounded queue of requests while the actor dies: it waits in slices, and looks.

Why no call is done twice. A request names the incarnation that it is for, and another one drops it. A call is sent
again only with the option `retries`, and only after the incarnation that it was sent to is over. A client believes that
only when the process is dead, or is sure to die with its owner; in the latter case nothing is sent again.

Why no reply meets the wrong call. A `Line` (two queues) serves one call at a time. After a timeout, an interrupt or
any other error it is dropped, and the actor is told with a later request. So nothing of an earlier call is in a line
that is used again. Futures share a queue of replies, in which each reply has the number of its call. Arguments and
results that may run code of the program when they are unpickled travel in queues of their own, so that an error there
is known to be that of one call.

Which calls a fork, an exit and an interrupt meet. A child of fork makes a client of its own; the futures that it has
copies of fail there. At its exit the owner ends the actor, before its other children. An interrupt ends a wait, and the
call goes on; the actor's process ignores SIGINT.
"""

__all__: list[str] = []
