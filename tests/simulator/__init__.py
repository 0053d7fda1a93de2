"""A world with known truth that answers the trials of whole experiments, so that decisions can be held against it.

truth.py        what is true: loss by learning rate, and how large each noise is
world.py        answers a trial's spec with a result and item tables, in memory
experiment.py   runs the real planner and the real decisions on a world
claims.py       what design 4 promises, one function a claim
settings.py     every setting of the noise knobs, and corners
__main__.py     python -m simulator: the evidence, with its seeds
"""
