"""`kubectl cpt run`: a whole experiment on one machine, by the operator's planner and the cluster's trainer.

world.py     which trials there are, which of them can start, what is decided     (knows no process)
attempt.py   one trial as a process, again and again until it ends for good       (knows no plan)
session.py   both together, until nothing is left to do
memory.py    what the next run on the same store must know
lock.py      one run at a time on a store
display.py   progress for people
answer.py    what came out, what it cost, where it lies
"""
