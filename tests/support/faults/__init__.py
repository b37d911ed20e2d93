"""Faults that a pole meets, one function each: what happened, what the platform saw, how long until all was well.

Nothing in a row of the table is a word of the scenario: times and counts are measured, and what the platform saw is
read from the messages that a real subscriber received. The short form of each is part of the tests, the long form is
``python -m benchmarks.chaos``.
"""
