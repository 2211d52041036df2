"""The two sides of a comparison, each a program that stays in a process of its own.

A side is started with a task and its settings, answers the first line that it is sent with what it is (`name`, …), and
every further line with a figure; one that is asked questions finds them in these lines. Peers are written as their
documentation teaches. Nothing of ours is in them but for those of `live_search`, which train with our trainer.
"""
