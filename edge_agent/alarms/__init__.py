"""What the signals say together: evidence, rules over it, the machine that raises and clears, and a second opinion."""
