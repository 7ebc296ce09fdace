"""What a signal shows: beats, pulses, their quality and rhythm, the usual beat. Block-invariant, numpy and C."""
