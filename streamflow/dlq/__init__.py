"""Dead letters: what could not go on, byte for byte, with its reason."""
