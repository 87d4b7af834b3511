"""Cases of hostile and of common wrong input, for ``benchmarks/hostile_inputs.py``."""
