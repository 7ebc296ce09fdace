"""Where samples come from: boards, files, networks, the simulated patient. Bytes in, blocks out."""
