"""How fast everything is: `pytest benchmarks` for fastcnn alone, `python -m benchmarks.report` beside its peers."""
