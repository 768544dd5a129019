"""Mathematical answers: find, clean, read, compare; the symbolic step behind them."""
