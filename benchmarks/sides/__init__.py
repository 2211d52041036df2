"""The two sides of a comparison, each a program that stays in a process of its own.

A side is started with a task and its settings, answers the first line sent to it with a description of itself (`name`,
…), and every further line with a figure; a side that takes questions finds them in these lines. Peers are written as
their documentation teaches. They contain none of our code, except those of `live_search`, which use our trainer.
"""
