"""Multiple choice: what a question offers, what a text says about letters, and which it settles on."""
