"""The same work in other libraries, each in a process and a virtual environment of its own.

`python -m benchmarks.peers install` makes the environments, `python -m benchmarks.peers check` shows that every peer
computes the same network as fastcnn. A worker process imports nothing from here but what numpy alone can run.
"""
