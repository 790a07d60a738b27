"""The benchmark behind ``fastconv bench``: fastconv beside whatever other library is installed.

``problems/`` holds the layers, a line each; ``tasks`` says what is computed of them and how much work it is,
``contestants`` how each library is asked for it.  Every contestant lives in a process of its own (``worker``), and
``runner`` lets them take turns, each result checked before it is timed.  ``report`` writes the tables.
"""
