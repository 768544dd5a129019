"""Finds the answer that a text states; `order` defines which of several candidates is trusted most."""
