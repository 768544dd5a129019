"""Real runs, each with one random fault at a random moment, and what must hold after it: docs/faults.md.

python -m tests.faults --trials 200 --seed 0 --out DIR      the long form (make faults)
python -m pytest tests/services/test_faults.py              the short form
"""
