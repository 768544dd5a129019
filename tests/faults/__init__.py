"""Real runs, each with one random fault at a random moment, and what must hold after it: docs/faults.md.

python -m tests.faults --trials 200 --seed 0 --out DIR      the long form (make faults)
python -m tests.faults --only 0 5 13 --out DIR              three of them
"""
